"""UniAD with a memory between encoder and decoder, a proposal of this project.

    python tools/main.py --config configs/uniad/uniad_224_memory.py --cls_names all

Cost: 3 % more than uniad_224, 0.26 million more parameters. Expected: unknown, nothing was published.
"""

from anoframe.config import inherit

cfg = inherit("uniad_224.py")
cfg.model.memory.kind = "series"
