"""UniAD."""
