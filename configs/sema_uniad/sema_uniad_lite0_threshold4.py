"""Ablation: sema_uniad_lite0 with a higher threshold.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_threshold4.py

Cost: at most that of sema_uniad_lite0. Expected: docs/sema_uniad.md, at a reduced size.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.sema.expansion_threshold = 4.0
