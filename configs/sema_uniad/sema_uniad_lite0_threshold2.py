"""Ablation: sema_uniad_lite0 with a lower threshold.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_threshold2.py

Cost: more slots than sema_uniad_lite0. Expected: not measured yet.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.sema.expansion_threshold = 2.0
