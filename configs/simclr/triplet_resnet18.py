"""Triplet loss: the positive is an augmented view, the negative the image with an NSA defect.

    python tools/pretrain.py --config configs/simclr/triplet_resnet18.py --data.root DIR

Cost: one view and one synthetic defect of each image per epoch. Expected: weak; the log that proposed it called the
result terrible.
"""

from anoframe.config import ConfigDict, inherit

cfg = inherit("__base__/pretraining.py")
cfg.views.preset = "industrial"
cfg.trainer.batch_size = 128
with cfg.unlocked():
    cfg.learner.name = "triplet"
    cfg.learner.margin = 0.5  # of unit features, whose distances lie in [0, 2]
    cfg.learner.unit = True
    cfg.learner.synthesis = ConfigDict()
    cfg.learner.synthesis.name = "nsa"  # any generator of docs/synthesis.md, or "other": another image
