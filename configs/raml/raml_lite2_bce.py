"""Ablation C: binary cross-entropy alone, without MACCL.

    python tools/main.py --config configs/raml/raml_lite2_bce.py --cls_names all

Cost: as raml_lite2. Expected: docs/raml.md.
"""

from anoframe.config import inherit

cfg = inherit("raml_lite2.py")
cfg.model.loss.maccl = False
