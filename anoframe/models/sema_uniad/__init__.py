"""SEMA-UniAD: self-expanding adapters for continual anomaly detection."""
