"""Ablation A: a fixed margin of 0.5.

    python tools/main.py --config configs/raml/raml_lite2_fixed_margin.py --cls_names all

Cost: as raml_lite2. Expected: docs/raml.md.
"""

from anoframe.config import inherit

cfg = inherit("raml_lite2.py")
cfg.model.loss.margin_sigma = 0.0
cfg.model.loss.margin_resolution = 0.0
