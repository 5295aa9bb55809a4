"""Relative position: which of eight neighbours of a patch another patch is.

    python tools/pretrain.py --config configs/simclr/relative_position_resnet18.py --data.root DIR

Cost: two patches of 64 pixels of each image per epoch, a sixth of SimCLR. Expected: an accuracy above 1/8, the chance
level, on images with structure.
"""

from anoframe.config import inherit

cfg = inherit("__base__/pretraining.py")
cfg.views.scale = (0.5, 1.0)  # of the crop that holds the patches
with cfg.unlocked():
    cfg.learner.name = "relative_position"
    cfg.learner.cell = 64  # pixels; side of a patch
    cfg.learner.gap = 8
    cfg.learner.jitter = 7
    cfg.learner.drop_channels = 0.5
    cfg.learner.hidden = 512
    cfg.learner.rotation = False  # True: also predict quarter turns of the centre patch
