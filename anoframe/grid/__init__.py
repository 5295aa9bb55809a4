"""Grids of runs: every combination of configs, categories and seeds, in one process, several, or on a Ray cluster."""
