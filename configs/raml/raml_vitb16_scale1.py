"""Ablation F: the whole image alone.

    python tools/main.py --config configs/raml/raml_vitb16_scale1.py --cls_names all

Cost: as raml_vitb16, whose features it shares. Nothing was published; not measured here.
"""

from anoframe.config import inherit

cfg = inherit("raml_vitb16.py")
cfg.model.pyramid.scales = (1,)
