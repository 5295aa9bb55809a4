"""CLAP4CLIP on a stream of industrial categories: one class per category and state, or per category."""

from anoframe.config import ConfigDict, inherit

cfg = inherit("clap4clip.py")
cfg.protocol.name = "continual"
cfg.protocol.strategy = "native"
with cfg.unlocked():
    cfg.model.classes = "state"  # normal and defective; "category": one class per category, trained on normal images
    cfg.model.defects = "synthetic"  # of "state": made from normal images; "real": supervised, with data.split raml
    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "open_clip:ViT-B-16-quickgelu"
    cfg.model.backbone.weights = "openai"  # or a file, for a machine without the hub
    cfg.model.backbone.precision = "float32"
cfg.data.resize = 224
cfg.data.crop = 224
