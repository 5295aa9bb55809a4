"""Ablation: sema_uniad_lite0 that trains the new slots of a task together instead of one after another.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_joint_scan.py

Cost: an eighth of sema_uniad_lite0 if all sites expand. Expected: docs/sema_uniad.md, at a reduced size.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.sema.scan_order = "joint"
