"""PaDiM on ResNet-50, 550 of 1,792 channels: `padim_224.py` with a narrower backbone.

    python tools/main.py --config configs/padim/padim_resnet50_224.py --cls_names bottle

Cost: that of `padim_224.py`, with half of the encoder's time. Expected: not published.
"""

from anoframe.config import inherit

cfg = inherit("padim_224.py")
cfg.model.backbone.name = "resnet50"
cfg.model.backbone.weights = "hub:tv_in1k"  # torchvision's V1 weights
