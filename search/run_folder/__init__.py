"""Every file of a search's folder: what it holds, its writer and its reader."""
