"""Ablation: sema_uniad_lite0 with new slots that have hardly a say at first.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_router_bias.py

Cost: that of sema_uniad_lite0. Expected: docs/sema_uniad.md, at a reduced size.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.new_router_bias = -4.0
