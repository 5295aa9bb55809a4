"""Ablation: sema_uniad_lite0 where a task that brings no slot trains those that there are.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_reuse_finetune.py

Cost: one training more for such a task. Expected: forgets more; not measured yet.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.reuse_finetune = True
