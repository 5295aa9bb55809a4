"""PatchCore with adaptive propose-noising: WideResNet-50-2, 256 x 256, 10 % of the patches.

    python tools/main.py --config configs/patchcore_noising/patchcore_noising_256_100e.py --cls_names bottle

"100e" are 100 epochs of the optional student network, which this version does not have yet. The memory bank, which is
what runs today, sees every training image once and has no epochs.
Cost: that of patchcore_256, and a search for the noised patches at test time.
Expected: close to PatchCore; docs/patchcore_noising.md says by how much the additions help or hurt.
"""

from anoframe.config import ConfigDict, inherit

cfg = inherit("../__base__/patchcore.py")
cfg.data.resize = 256
cfg.data.crop = 256
with cfg.unlocked():
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
