"""A search before it starts: the trials that it would draw, and what they would cost."""
