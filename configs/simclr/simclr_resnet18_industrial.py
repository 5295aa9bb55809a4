"""SimCLR for products in a fixed position: no flips, larger crops, weaker colour jitter, ImageNet normalisation.

    python tools/pretrain.py --config configs/simclr/simclr_resnet18_industrial.py --data.root DIR

Cost and expected result: as simclr_resnet18.
"""

from anoframe.config import inherit

cfg = inherit("simclr_resnet18.py")
cfg.views.preset = "industrial"
cfg.encoder.mean = (0.485, 0.456, 0.406)
cfg.encoder.std = (0.229, 0.224, 0.225)
