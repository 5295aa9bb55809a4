"""Ablation F: the whole image and its 2 x 2 tiles.

    python tools/main.py --config configs/raml/raml_vitb16_scales1_4.py --cls_names all

Cost: as raml_vitb16, whose features it shares. Nothing was published; not measured here.
"""

from anoframe.config import inherit

cfg = inherit("raml_vitb16.py")
cfg.model.pyramid.scales = (1, 4)
