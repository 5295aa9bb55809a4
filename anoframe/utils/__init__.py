"""Helpers that are independent of anomaly detection."""
