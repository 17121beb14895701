"""Names for masks by CLIP and by a linear probe."""
