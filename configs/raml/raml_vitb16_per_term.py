"""Each term of MACCL as the mean over the images that it is defined on, as the formula of the text reads.

    python tools/main.py --config configs/raml/raml_vitb16_per_term.py --cls_names all

Cost: as raml_vitb16. Nothing was published; not measured here.
"""

from anoframe.config import inherit

cfg = inherit("raml_vitb16.py")
cfg.model.loss.reduction = "per_term"
