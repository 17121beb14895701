"""Optuna: the study's journal, the sampler, the searcher, the ranking of trials."""
