"""PatchCore with adaptive propose-noising: WideResNet-50-2, 256 x 256, 10 % of the patches.

    python tools/main.py --config configs/patchcore_noising/patchcore_noising_256_100e.py --cls_names bottle

What runs by default is the memory bank, which sees every training image once. "100e" are 100 epochs of the optional
student, a network that learns by gradient descent:

    ... --model.student.enable True --threshold.held_back 0

The second setting spares the fit that thresholds are taken from, which would train the student once more.
Cost: that of patchcore_256, and a search for the noised patches at test time; the student needs a GPU.
Expected: close to PatchCore; docs/patchcore_noising.md says by how much the additions help or hurt.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/patchcore_noising.py")
cfg.data.resize = 256
cfg.data.crop = 256
cfg.trainer.epochs = 100
cfg.trainer.batch_size = 8
cfg.trainer.optimizer.name = "adam"
cfg.trainer.optimizer.lr = 0.005
cfg.trainer.optimizer.betas = (0.5, 0.999)
cfg.trainer.optimizer.weight_decay = 1e-4
cfg.trainer.schedule.name = "step"  # to a tenth when 80 % of the epochs are over
cfg.trainer.schedule.warmup_epochs = 5.0
