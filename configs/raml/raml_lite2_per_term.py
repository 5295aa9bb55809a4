"""Each term of MACCL as the mean over the images that it is defined on, as the formula of the text reads.

    python tools/main.py --config configs/raml/raml_lite2_per_term.py --cls_names all

Cost: as raml_lite2. Expected: docs/raml.md.
"""

from anoframe.config import inherit

cfg = inherit("raml_lite2.py")
cfg.model.loss.reduction = "per_term"
