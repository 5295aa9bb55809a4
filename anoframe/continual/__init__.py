"""Training on a stream of tasks: strategies and results."""
