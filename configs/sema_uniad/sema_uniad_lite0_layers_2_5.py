"""Ablation: sema_uniad_lite0 with adapters only in the layers 2 to 5.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_layers_2_5.py

Cost: half of sema_uniad_lite0. Expected: docs/sema_uniad.md, at a reduced size.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.sema.start_layer = 2
cfg.model.sema.end_layer = 5
