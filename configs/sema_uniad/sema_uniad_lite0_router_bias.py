"""Ablation: sema_uniad_lite0 where a new slot starts with almost no router weight.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_router_bias.py

Cost: as sema_uniad_lite0. Expected: docs/sema_uniad.md, at a reduced size.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.sema.new_router_bias = -4.0
