"""Ablation C: binary cross-entropy alone, without MACCL.

    python tools/main.py --config configs/raml/raml_vitb16_bce.py --cls_names all

Cost: as raml_vitb16. Nothing was published; not measured here.
"""

from anoframe.config import inherit

cfg = inherit("raml_vitb16.py")
cfg.model.loss.maccl = False
