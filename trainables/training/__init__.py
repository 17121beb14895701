"""One fine-tune: batches, augmentation, losses, optimizer, an epoch."""
