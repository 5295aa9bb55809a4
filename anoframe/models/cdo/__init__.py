"""Collaborative discrepancy optimisation."""
