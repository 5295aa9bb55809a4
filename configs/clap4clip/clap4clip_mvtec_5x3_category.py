"""CLAP4CLIP on MVTec AD with one class per category (P-CAT).

    python tools/main.py --config configs/clap4clip/clap4clip_mvtec_5x3_category.py --data.root MVTec

Trained on normal images alone; it identifies the category, and the anomaly score is the energy. Cost: as
clap4clip_mvtec_5x3. Expected: a weak anomaly score, because nothing is learned about defects.
"""

from anoframe.config import inherit

cfg = inherit("clap4clip_mvtec_5x3.py")
cfg.model.classes = "category"
