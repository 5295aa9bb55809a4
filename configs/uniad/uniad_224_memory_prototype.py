"""The memory of a public prototype: the decoder also sees the encoder output directly, and nothing is masked.

    python tools/main.py --config configs/uniad/uniad_224_memory_prototype.py --cls_names all

Cost: less than uniad_224, because there are no queries. Expected: worse than uniad_224_memory; nothing was published.
"""

from anoframe.config import inherit

cfg = inherit("uniad_224.py")
cfg.model.memory.kind = "prototype"
