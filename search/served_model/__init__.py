"""The exported winner as an MLflow model that any tool of MLflow loads and serves."""
