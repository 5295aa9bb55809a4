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
with cfg.unlocked():
    cfg.data.synthetic = ConfigDict()  # defects of "synthetic": one per normal training image, see docs/continual.md
    cfg.data.synthetic.generator = ConfigDict()
    cfg.data.synthetic.generator.name = "mixture"
    cfg.data.synthetic.generator.members = (
        {"name": "nsa", "weight": 0.5},
        {"name": "draem", "weight": 0.5, "rotate_base": 0.0},  # normal images are not rotated either
    )
    cfg.data.synthetic.seed = 0  # the same defects for every seed of a run
