"""Paired statistics, the verdict, the test set and how often it was opened."""
