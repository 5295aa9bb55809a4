"""WinCLIP: zero-shot and few-shot anomaly detection with CLIP."""
