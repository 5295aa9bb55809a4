"""Features of samples: extraction with the frozen encoder, the disk cache, and the store for training."""
