"""RAML on CLIP ViT-B/16 with OpenAI's weights: one model for all categories, trained with labelled defects.

    python tools/main.py --config configs/raml/raml_vitb16.py --cls_names all

Cost: 21 passes of ViT-B/16 per image once, on a GPU; 43 kB of features per image, 230 MB for MVTec AD. Then an epoch
takes seconds on a CPU: 2.25 million parameters. Published by the project's text (MVTec AD, 356 held-out images, mean of
15, without seeds): image AUROC 94.1, from a pyramid that does not do what the text says (raml_vitb16_replication).
Not measured here: the weights are not available where this was written. Not comparable with methods that learn from
normal images: the protocol tag of all results is raml-supervised-80/20.
"""

from anoframe.config import ConfigDict, inherit

cfg = inherit("../__base__/raml.py")
with cfg.unlocked():
    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "open_clip:ViT-B-16-quickgelu"
    cfg.model.backbone.weights = "openai"  # or a file, for a machine without the hub
    cfg.model.backbone.precision = "float32"
