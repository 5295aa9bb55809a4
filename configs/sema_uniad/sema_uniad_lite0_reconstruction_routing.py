"""sema_uniad_lite0 where each image uses the slots of one task, the task whose slots reconstruct it best.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_reconstruction_routing.py

Cost: as sema_uniad_lite0; testing runs the transformer once per task. Expected: docs/sema_uniad.md.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.sema.routing = "reconstruction"
