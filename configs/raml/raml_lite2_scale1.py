"""Ablation F: the whole image alone.

    python tools/main.py --config configs/raml/raml_lite2_scale1.py --cls_names all

Cost: as raml_lite2, whose features it shares. Expected: docs/raml.md.
"""

from anoframe.config import inherit

cfg = inherit("raml_lite2.py")
cfg.model.pyramid.scales = (1,)
