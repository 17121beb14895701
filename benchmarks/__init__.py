"""Measurements behind decisions: tables of real learning curves, rules replayed on them, the verdict's power."""
