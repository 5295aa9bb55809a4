"""UniAD: one reconstruction model for all categories."""
