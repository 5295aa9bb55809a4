"""Ablation of clap4clip_lite2: text features do not attend to images.

    python tools/main.py --config configs/clap4clip/clap4clip_lite2_no_vga.py --cls_names bottle grid wood

What the visual-guided attention buys.
Cost: as clap4clip_lite2, whose features it shares. Expected: docs/clap4clip.md.
"""

from anoframe.config import inherit

cfg = inherit("clap4clip_lite2.py")
cfg.model.classifier.vga.enabled = False
