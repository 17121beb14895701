"""The pre-flight: all input is read and checked before anything starts; resume."""
