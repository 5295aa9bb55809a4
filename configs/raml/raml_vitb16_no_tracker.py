"""Ablation I: all categories have the same weight in the loss.

    python tools/main.py --config configs/raml/raml_vitb16_no_tracker.py --cls_names all

Cost: as raml_vitb16. Nothing was published; not measured here.
"""

from anoframe.config import inherit

cfg = inherit("raml_vitb16.py")
cfg.model.loss.tracker = False
