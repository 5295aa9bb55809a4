"""Ablation: sema_uniad_lite0 with descriptors that are trained together with adapters.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_joint_loss.py

Cost: a little less than sema_uniad_lite0. Expected: docs/sema_uniad.md, at a reduced size.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.sema.joint_loss = True
