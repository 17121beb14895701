"""The built-in demo: synthetic tissue, and how nano was pretrained."""
