"""A data set on disk as regions: checks, split, folds, leaks, decoded store."""
