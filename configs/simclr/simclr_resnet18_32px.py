"""SimCLR on CIFAR-10 at 32 pixels, with the stem for small images.

    python tools/pretrain.py --config configs/simclr/simclr_resnet18_32px.py --data.root DIR

Cost: on two CPU cores about a minute per 5,000 images and epoch. Expected: the loss falls from ln(511) = 6.24 below 4.
"""

from anoframe.config import inherit

cfg = inherit("simclr_resnet18.py")
cfg.data.name = "cifar10"
cfg.data.resize = 32
cfg.data.crop = 32
cfg.encoder.stem = "small"
cfg.views.size = 32
cfg.views.blur_p = 0.0  # as in the paper for CIFAR-10 (appendix B.9)
cfg.views.jitter = (0.4, 0.4, 0.4, 0.1)  # strength 0.5, the same place
cfg.trainer.batch_size = 256
