"""Ablation of clap4clip_lite2: exemplars of lowest energy in place of random ones.

    python tools/main.py --config configs/clap4clip/clap4clip_lite2_energy.py --cls_names bottle grid wood

What the choice of exemplars buys.
Cost: as clap4clip_lite2, whose features it shares. Expected: docs/clap4clip.md.
"""

from anoframe.config import inherit

cfg = inherit("clap4clip_lite2.py")
cfg.model.classifier.memory.selector = "energy"
