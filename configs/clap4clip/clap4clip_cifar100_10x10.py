"""CLAP4CLIP on CIFAR-100 in 10 tasks of 10 classes, with CLIP ViT-B/16 and the settings of its authors.

    python tools/main.py --config configs/clap4clip/clap4clip_cifar100_10x10.py --data.root DIR

Memory of 2,000 exemplars, class order by NumPy's seed 1993. Without the hub: `--model.backbone.weights FILE`. Cost: one
pass of ViT-B/16 over 60,000 images, on a GPU. Expected, from a public log of the authors' code, whose test batches hold
one task each: average accuracy 87.8, last 84.6 (docs/clap4clip.md). It has not been run here, for want of the weights.
"""

from anoframe.config import ConfigDict, inherit

cfg = inherit("../__base__/clap4clip_images.py")
cfg.protocol.tasks = "10x10"
cfg.protocol.order_seed = 1993
cfg.data.name = "cifar100"
cfg.model.classifier.memory.total = 2000
cfg.model.text.source = "prompts"
cfg.model.text.templates = "cifar"
with cfg.unlocked():
    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "open_clip:ViT-B-16-quickgelu"
    cfg.model.backbone.weights = "openai"
    cfg.model.backbone.precision = "float32"
