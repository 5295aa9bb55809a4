"""Classifiers on frozen features whose classes arrive task by task (docs/clap4clip.md)."""
