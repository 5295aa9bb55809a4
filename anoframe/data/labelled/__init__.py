"""Images with a class each, and no masks: for pretraining and for the evaluation of encoders.

A source is written `KIND:PATH`; the kinds are in `anoframe.registry.LABELLED`, or are datasets, whose normal training
images are used.
"""
