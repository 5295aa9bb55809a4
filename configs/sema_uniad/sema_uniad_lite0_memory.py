"""Ablation: sema_uniad_lite0 with a memory between encoder and decoder.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_memory.py

Cost: 3 % more than sema_uniad_lite0. Expected: docs/sema_uniad.md, at a reduced size.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.memory.kind = "series"
