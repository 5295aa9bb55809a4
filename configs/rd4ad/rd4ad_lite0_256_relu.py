"""Ablation: RD4AD on EfficientNet-Lite0 with a student that ends in a ReLU, as published, for a signed teacher.

    python tools/main.py --config configs/rd4ad/rd4ad_lite0_256_relu.py --cls_names bottle

Cost: that of rd4ad_lite0_256. Expected: a much higher loss, because the student cannot output negative features, and a
slightly lower AUPRO on bottle: docs/rd4ad.md.
"""

from anoframe.config import inherit

cfg = inherit("rd4ad_lite0_256.py")
cfg.model.heads = "relu"
