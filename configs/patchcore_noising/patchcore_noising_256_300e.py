"""PatchCore with noising like patchcore_noising_256_100e, with 300 epochs for the optional student.

    python tools/main.py --config configs/patchcore_noising/patchcore_noising_256_300e.py --cls_names bottle \
        --model.student.enable True --threshold.held_back 0

Cost: three times that of patchcore_noising_256_100e. Without the student, nothing differs from the 100-epoch config:
a memory bank has no epochs. Expected: not measured.
"""

from anoframe.config import inherit

cfg = inherit("patchcore_noising_256_100e.py")
cfg.trainer.epochs = 300
