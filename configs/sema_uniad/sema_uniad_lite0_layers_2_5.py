"""Ablation: sema_uniad_lite0 with adapters in the layers 2 to 5 alone.

    python tools/main.py --config configs/sema_uniad/sema_uniad_lite0_layers_2_5.py

Cost: half that of sema_uniad_lite0. Expected: docs/sema_uniad.md, at a reduced size.
"""

from anoframe.config import inherit

cfg = inherit("sema_uniad_lite0.py")
cfg.model.sema_start_layer = 2
cfg.model.sema_end_layer = 5
