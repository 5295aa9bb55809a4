"""CLAP4CLIP for classes of labelled images, with the settings of its authors; see docs/clap4clip.md."""

from anoframe.config import inherit

method = inherit("clap4clip.py")
cfg = inherit("class_stream.py")
cfg.trainer = method.trainer
cfg.model = method.model
