"""Ablation: sema_uniad_lite0 with adapters on the output of sub-layers instead of parallel to them.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_sequential.py

Cost: as sema_uniad_lite0. Expected: docs/sema_uniad.md, at a reduced size.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.sema.mode = "sequential"
