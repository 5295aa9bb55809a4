"""Ablation G: the reinterpreted memory of the public code instead of tiles.

    python tools/main.py --config configs/raml/raml_lite2_reference.py --cls_names all

Cost: as raml_lite2. Expected: docs/raml.md.
"""

from anoframe.config import inherit

cfg = inherit("raml_lite2.py")
cfg.data.resize = 128
cfg.data.crop = 128
cfg.model.pyramid.mode = "reference"
