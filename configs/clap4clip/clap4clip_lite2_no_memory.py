"""Ablation of clap4clip_lite2: no exemplars, so no phase `balance`.

    python tools/main.py --config configs/clap4clip/clap4clip_lite2_no_memory.py --cls_names bottle grid wood

What exemplars buy.
Cost: as clap4clip_lite2, whose features it shares. Expected: docs/clap4clip.md.
"""

from anoframe.config import inherit

cfg = inherit("clap4clip_lite2.py")
cfg.model.classifier.memory.per_class = 0
