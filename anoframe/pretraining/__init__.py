"""Pretraining of encoders: learners that are no detectors, and the views that they learn from.

One learner per file; the names for configs are in `anoframe.registry.PRETRAINING`. See docs/pretraining.md.
"""
