"""Training of detectors: stages, the gradient loop, its settings, state and checkpoints."""
