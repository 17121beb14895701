"""What MLflow's screens show of a search: names of runs, notes, the saved view of its charts, addresses."""
