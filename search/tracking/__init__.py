"""MLflow: the tracker, the queue of records, runs of searches, trials and bars, pages."""
