"""Model files: merged, unmerged and class-prompt exports, and tiles of large images."""
