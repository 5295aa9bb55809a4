"""Ablation I: all categories have the same weight in the loss.

    python tools/main.py --config configs/raml/raml_lite2_no_tracker.py --cls_names all

Cost: as raml_lite2. Expected: docs/raml.md.
"""

from anoframe.config import inherit

cfg = inherit("raml_lite2.py")
cfg.model.loss.tracker = False
