"""Ablation E: no text fusion. The text score keeps its share; `visual` is the score without it.

    python tools/main.py --config configs/raml/raml_vitb16_no_text.py --cls_names all

Cost: as raml_vitb16. Nothing was published; not measured here.
"""

from anoframe.config import inherit

cfg = inherit("raml_vitb16.py")
cfg.model.text.fusion = False
