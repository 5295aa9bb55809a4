"""Ablation: sema_uniad_lite0 where every batch is strange: each site gets a slot in each task.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_always.py

Cost: the most that there can be. Expected: as sema_uniad_lite0 where every task is strange at all
sites, which those of docs/sema_uniad.md are.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.expansion_threshold = -1.0
