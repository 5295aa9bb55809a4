"""Parts that several methods are built from: nearest neighbours, coreset, patch embedding, anomaly map."""
