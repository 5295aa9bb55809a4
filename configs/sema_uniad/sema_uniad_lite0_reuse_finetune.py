"""Ablation: sema_uniad_lite0 where a task without expansion trains the existing adapters.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_reuse_finetune.py

Cost: one more training for such a task. Expected: more forgetting; not measured yet.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.sema.reuse_finetune = True
