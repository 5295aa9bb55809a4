"""Ablation: uniad_lite0_memory, where slot weights up to 0.0025 become zero.

    python tools/main.py --config configs/uniad/uniad_lite0_memory_shrink.py --cls_names all

Cost: as uniad_lite0_memory. Expected: not measured yet.
"""

from anoframe.config import inherit

cfg = inherit("uniad_lite0_memory.py")
cfg.model.memory.shrink = 0.0025
