"""Ablation: sema_uniad_lite0 with adapters mixed by descriptors, which cannot forget, instead of a learned router.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_rd_routing.py

Cost: as sema_uniad_lite0. Expected: docs/sema_uniad.md: almost no forgetting; how much is learned depends on the first
task. The variant to use in practice.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.sema.routing = "rd"
