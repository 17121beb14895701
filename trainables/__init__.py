"""SAM2 and its training, evaluation and export; knows nothing of a search."""
