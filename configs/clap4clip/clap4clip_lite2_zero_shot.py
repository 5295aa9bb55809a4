"""Floor of clap4clip_lite2: the nearest prototype; nothing is trained.

    python tools/main.py --config configs/clap4clip/clap4clip_lite2_zero_shot.py --cls_names bottle grid wood

Cost: as clap4clip_lite2, whose features it shares. Expected: docs/clap4clip.md.
"""

from anoframe.config import ConfigDict, inherit

cfg = inherit("clap4clip_lite2.py")
with cfg.unlocked():
    cfg.model.classifier = ConfigDict({"name": "zero_shot", "scale": 100.0})
