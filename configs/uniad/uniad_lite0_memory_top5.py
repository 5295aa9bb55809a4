"""Ablation: uniad_lite0_memory, where a token is a mixture of the five slots with the largest weights.

    python tools/main.py --config configs/uniad/uniad_lite0_memory_top5.py --cls_names all

Cost: as uniad_lite0_memory. Expected: not measured yet.
"""

from anoframe.config import inherit

cfg = inherit("uniad_lite0_memory.py")
cfg.model.memory.topk = 5
