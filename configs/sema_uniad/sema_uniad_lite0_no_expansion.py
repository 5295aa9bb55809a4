"""Ablation: sema_uniad_lite0 that never expands: all that was learned is the first task.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_no_expansion.py

Cost: that of the first task. Expected: no forgetting at all, and no learning after the first task.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.expansion_threshold = None
