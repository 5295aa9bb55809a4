"""Ablation: sema_uniad_lite0 that never expands: only the first task is trained.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_no_expansion.py

Cost: that of the first task. Expected: no forgetting at all, and no learning after the first task.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.sema.expansion_threshold = None
