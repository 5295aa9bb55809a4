"""Ablation B: a fixed margin of 1.0.

    python tools/main.py --config configs/raml/raml_vitb16_strong_margin.py --cls_names all

Cost: as raml_vitb16. Published: image AUROC 86.2 on MVTec AD, one run; not measured here.
"""

from anoframe.config import inherit

cfg = inherit("raml_vitb16.py")
cfg.model.loss.margin_base = 1.0
cfg.model.loss.margin_sigma = 0.0
cfg.model.loss.margin_resolution = 0.0
