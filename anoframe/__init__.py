"""anoframe: a PyTorch research framework for industrial visual anomaly detection."""
