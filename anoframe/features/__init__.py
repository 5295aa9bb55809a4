"""Features of samples: extraction with the frozen encoder, the disk cache, and a store for training."""
