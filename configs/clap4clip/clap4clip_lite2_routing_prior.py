"""Ablation of clap4clip_lite2: log weights of task anchors are added to the logits.

    python tools/main.py --config configs/clap4clip/clap4clip_lite2_routing_prior.py --cls_names bottle grid wood

What anchor routing buys; it is no part of the paper.
Cost: as clap4clip_lite2, whose features it shares. Expected: docs/clap4clip.md.
"""

from anoframe.config import inherit

cfg = inherit("clap4clip_lite2.py")
cfg.model.classifier.routing.mode = "prior"
