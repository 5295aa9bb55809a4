"""Ablation: sema_uniad_lite0 with adapters at the attentions instead of the feed-forward networks: 12 sites.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_attn.py

Cost: one and a half times the slots. Expected: docs/sema_uniad.md, at a reduced size.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.sema.position = "attn"
