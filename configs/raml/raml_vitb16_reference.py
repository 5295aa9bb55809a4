"""Ablation G: the reinterpreted memory of the public code instead of tiles.

    python tools/main.py --config configs/raml/raml_vitb16_reference.py --cls_names all

Cost: as raml_vitb16. Nothing was published; not measured here.
"""

from anoframe.config import inherit

cfg = inherit("raml_vitb16.py")
cfg.data.resize = 224
cfg.data.crop = 224
cfg.model.pyramid.mode = "reference"
