"""PatchCore with adaptive noising: WideResNet-50-2, 256 x 256, 10 % of the patches.

    python tools/main.py --config configs/patchcore_noising/patchcore_noising_256_100e.py --cls_names bottle

By default only the memory bank is used, which has no epochs. "100e" means 100 epochs of the optional student, a network
trained by gradient descent:

    python tools/main.py --config configs/patchcore_noising/patchcore_noising_256_100e.py --cls_names bottle \
        --model.student.enable True --threshold.held_back 0

`--threshold.held_back 0` avoids the second fit for thresholds, which would train the student again.
Cost: that of patchcore_256, plus a search for the noised patches at test time; the student needs a GPU.
Expected: close to PatchCore; docs/patchcore_noising.md states by how much the additions help or hurt.
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
cfg.trainer.schedule.name = "step"  # a tenth of the learning rate after 80 % of the epochs
cfg.trainer.schedule.warmup_epochs = 5.0
