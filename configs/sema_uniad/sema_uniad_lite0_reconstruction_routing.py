"""sema_uniad_lite0 whose images take the slots of one task, of that with which they are rebuilt best.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_reconstruction_routing.py

Cost: that of sema_uniad_lite0; a test runs the transformer once for each task. Expected: docs/sema_uniad.md.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.routing = "reconstruction"
