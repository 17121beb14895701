"""What people read: the HTML page, plots, the model card."""
