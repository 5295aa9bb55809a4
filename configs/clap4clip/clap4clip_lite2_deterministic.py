"""Ablation of clap4clip_lite2: adapters give a mean alone, without samples and prior.

    python tools/main.py --config configs/clap4clip/clap4clip_lite2_deterministic.py --cls_names bottle grid wood

What the probabilistic part buys.
Cost: as clap4clip_lite2, whose features it shares. Expected: docs/clap4clip.md.
"""

from anoframe.config import inherit

cfg = inherit("clap4clip_lite2.py")
cfg.model.classifier.posterior.variational = False
