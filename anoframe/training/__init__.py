"""Training of detectors: training stages, the gradient loop, its settings, states and checkpoints."""
