"""Ablation: sema_uniad_lite0 where every batch counts as novel: each site gets a slot in each task.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_always.py

Cost: the largest possible. Expected: as sema_uniad_lite0 if every task is novel at all sites, which is the case for the
streams of docs/sema_uniad.md.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.sema.expansion_threshold = -1.0
