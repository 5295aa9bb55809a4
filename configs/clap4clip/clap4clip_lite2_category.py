"""clap4clip_lite2 with one class per category (P-CAT).

    python tools/main.py --config configs/clap4clip/clap4clip_lite2_category.py --cls_names bottle grid wood

Trained on normal images alone; the anomaly score is the energy.
Cost: as clap4clip_lite2, whose features it shares. Expected: docs/clap4clip.md.
"""

from anoframe.config import inherit

cfg = inherit("clap4clip_lite2.py")
cfg.model.classes = "category"
