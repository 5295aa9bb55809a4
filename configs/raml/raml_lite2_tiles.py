"""Ablation G: tiles of the image of 128 pixels, enlarged, so without more detail than it has.

    python tools/main.py --config configs/raml/raml_lite2_tiles.py --cls_names all

Cost: as raml_lite2. Expected: docs/raml.md.
"""

from anoframe.config import inherit

cfg = inherit("raml_lite2.py")
cfg.data.resize = 128
cfg.data.crop = 128
cfg.model.pyramid.mode = "tiles224"
