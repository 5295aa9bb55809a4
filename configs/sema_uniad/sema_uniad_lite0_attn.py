"""Ablation: sema_uniad_lite0 with adapters at attentions instead of feed-forward parts: 12 sites.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_attn.py

Cost: half as many slots again. Expected: docs/sema_uniad.md, at a reduced size.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.sema_position = "attn"
