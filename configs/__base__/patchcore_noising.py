"""PatchCore with adaptive noising and its optional student; see anoframe/models/patchcore_noising/model.py."""

from anoframe.config import ConfigDict, inherit

gradient = inherit("gradient.py")
cfg = inherit("patchcore.py")
with cfg.unlocked():
    cfg.trainer = gradient.trainer  # used by the student only: a memory bank has no epochs

    cfg.model.name = "patchcore_noising"
    cfg.model.lambda_noise = 1.0
    cfg.model.lambda_influence = 1.0
    cfg.model.influence_neighbours = 9

    cfg.model.noise = ConfigDict()
    cfg.model.noise.tau = 1.0  # overall strength
    cfg.model.noise.a_min = 0.01  # in units of the standard deviation of each dimension
    cfg.model.noise.a_max = 0.5
    cfg.model.noise.amplitude = "adaptive"  # or "constant", "reversed"
    cfg.model.noise.alpha = 1.0  # 1: more noise on dimensions with more influence; 0: the same on all
    cfg.model.noise.samples = 4  # noise vectors per patch, an even number
    cfg.model.noise.seed = 0
    cfg.model.noise.candidates = 64  # nearest entries among which a noised patch is searched

    cfg.model.student = ConfigDict()
    cfg.model.student.enable = False  # True: a student trained by gradient descent, see the trainer section
    cfg.model.student.levels = (1, 2, 3)  # levels that it reconstructs; the bank uses model.backbone.levels
    cfg.model.student.tau = 1.0  # strength of the noise in training; 0 is RD4AD
    cfg.model.student.beta = 0.5  # weight of its map: 1 is the student alone, 0 the bank alone
    cfg.model.student.loss = "flat"  # or "local"
    cfg.model.student.width = 0.5  # inner width of its blocks; 0.25 is lighter
