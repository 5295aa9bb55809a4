"""Learning a stream of tasks: strategies and results."""
