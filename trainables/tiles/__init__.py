"""Tissue at one scale: micrometres a pixel, the grid of tiles that is scored, and the windows that training draws."""
