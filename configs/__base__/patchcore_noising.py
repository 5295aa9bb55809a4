"""PatchCore with adaptive propose-noising, and its optional student; see anoframe/models/patchcore_noising/model.py."""

from anoframe.config import ConfigDict, inherit

descent = inherit("gradient.py")
cfg = inherit("patchcore.py")
with cfg.unlocked():
    cfg.trainer = descent.trainer  # of the student alone: a memory bank sees each image once

    cfg.model.name = "patchcore_noising"
    cfg.model.lambda_noise = 1.0
    cfg.model.lambda_influence = 1.0
    cfg.model.influence_neighbours = 9

    cfg.model.noise = ConfigDict()
    cfg.model.noise.tau = 1.0
    cfg.model.noise.a_min = 0.01  # in units of the nominal standard deviation
    cfg.model.noise.a_max = 0.5
    cfg.model.noise.amplitude = "adaptive"  # or "constant", "reversed"
    cfg.model.noise.alpha = 1.0
    cfg.model.noise.samples = 4
    cfg.model.noise.seed = 0
    cfg.model.noise.candidates = 64

    cfg.model.student = ConfigDict()
    cfg.model.student.enable = False  # True: learns by gradient descent, as the trainer section says
    cfg.model.student.levels = (1, 2, 3)  # that it rebuilds; the bank keeps to model.backbone.levels
    cfg.model.student.tau = 1.0  # strength of the noise while it learns; 0 is RD4AD
    cfg.model.student.beta = 0.5  # weight of its map beside the bank's; 1 is the student alone, 0 the bank alone
    cfg.model.student.loss = "flat"  # or "local"
    cfg.model.student.width = 0.5  # of its blocks; 0.25 is lighter
