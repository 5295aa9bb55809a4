"""Ablation: uniad_lite0_memory, where a token is a mixture of the five nearest slots.

    python tools/main.py --config configs/uniad/uniad_lite0_memory_top5.py --cls_names all

Cost: that of uniad_lite0_memory. Expected: not measured yet.
"""

from anoframe.config import inherit

cfg = inherit("uniad_lite0_memory.py")
cfg.model.memory.topk = 5
