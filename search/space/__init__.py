"""A space file (YAML) as a configuration, and the recorded experiments."""
