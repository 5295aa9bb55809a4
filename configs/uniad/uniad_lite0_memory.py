"""UniAD on EfficientNet-Lite0 with a memory between encoder and decoder.

    python tools/main.py --config configs/uniad/uniad_lite0_memory.py --cls_names all

Cost: 3 % more than uniad_lite0. Expected: not measured yet.
"""

from anoframe.config import inherit

cfg = inherit("uniad_lite0.py")
cfg.model.memory.kind = "series"
