"""Synthetic anomalies: each generator edits a normal image and returns the edited image with its mask.

One file per generator; the names for configs are in `anoframe.registry.SYNTHESIS`. See docs/synthesis.md.
"""
