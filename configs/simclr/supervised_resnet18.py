"""Supervised pretraining: cross-entropy over one class per folder, for example the products of several data sets.

    python tools/pretrain.py --config configs/simclr/supervised_resnet18.py --data.root DIR

Cost: one view of each image per epoch. Expected: an accuracy near 1 where the classes are products.
"""

from anoframe.config import inherit

cfg = inherit("__base__/pretraining.py")
cfg.data.name = "classes"
cfg.views.preset = "industrial"
with cfg.unlocked():
    cfg.learner.name = "supervised"
    cfg.learner.label_smoothing = 0.0
