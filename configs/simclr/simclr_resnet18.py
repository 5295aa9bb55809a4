"""SimCLR with the views of the paper, ResNet-18 at 224 pixels, any folder of images.

    python tools/pretrain.py --config configs/simclr/simclr_resnet18.py --data.root DIR

Cost: two views of each image per epoch; meant for a GPU. Expected: a loss below ln(1023) = 6.93 after a few epochs, and
a spread well above 0. No claim that the encoder is better than ImageNet's: see docs/pretraining.md.
"""

from anoframe.config import inherit

cfg = inherit("__base__/simclr.py")
cfg.encoder.mean = (0.0, 0.0, 0.0)  # no normalisation, as in the code that the paper's PyTorch users follow
cfg.encoder.std = (1.0, 1.0, 1.0)
