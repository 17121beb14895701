"""The one evaluator, what it scores, and stock SAM2 and SAM as outside checks."""
