"""SPot-the-Difference: SimCLR that notices small local changes (SmoothBlend) and ignores weak global ones.

    python tools/pretrain.py --config configs/simclr/spd_resnet18.py --data.root DIR

Cost: five views of each image per epoch. Expected: `noticed` near 1.
"""

from anoframe.config import ConfigDict, inherit

cfg = inherit("simclr_resnet18_industrial.py")
cfg.trainer.batch_size = 256
with cfg.unlocked():
    cfg.learner.name = "spd"
    cfg.learner.eta = 0.1  # weight of the loss of SPD
    cfg.learner.form = "contrastive"  # or "cosine"
    cfg.learner.spd_temperature = 0.1
    cfg.learner.synthesis = ConfigDict()
    cfg.learner.synthesis.name = "smooth_blend"
