"""SimSiam: no negatives. With `--learner.stop_gradient False` it is the baseline of collapse.

    python tools/pretrain.py --config configs/simclr/simsiam_resnet18.py --data.root DIR

Cost: as SimCLR. Expected: a similarity towards -1 with a spread well above 0; without stop-gradient a spread near 0.
"""

from anoframe.config import inherit

cfg = inherit("__base__/pretraining.py")
cfg.views.preset = "industrial"
cfg.trainer.optimizer.name = "momentum"  # SGD without Nesterov
cfg.trainer.optimizer.lr = 0.05  # times batch size / 256
with cfg.unlocked():
    cfg.trainer.optimizer.momentum = 0.9
    cfg.learner.name = "simsiam"
    cfg.learner.dim = 512
    cfg.learner.predictor = True
    cfg.learner.stop_gradient = True
