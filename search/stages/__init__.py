"""The main job, one file per stage, and what the other commands do to a search."""
