"""Runs: planning, training, evaluation and the run folder."""
