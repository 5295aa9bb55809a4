"""The memory of a public prototype, on EfficientNet-Lite0; see uniad_224_memory_prototype.

    python tools/main.py --config configs/uniad/uniad_lite0_memory_prototype.py --cls_names all

Cost: as uniad_lite0. Expected: worse than uniad_lite0_memory; not measured yet.
"""

from anoframe.config import inherit

cfg = inherit("uniad_lite0.py")
cfg.model.memory.kind = "prototype"
