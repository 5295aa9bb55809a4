"""Ablation: uniad_lite0_memory with 64 slots instead of 256.

    python tools/main.py --config configs/uniad/uniad_lite0_memory_64.py --cls_names all

Cost: as uniad_lite0_memory. Expected: not measured yet.
"""

from anoframe.config import inherit

cfg = inherit("uniad_lite0_memory.py")
cfg.model.memory.slots = 64
