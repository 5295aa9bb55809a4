"""UniAD at 256 x 256, hence 16 x 16 tokens, for 300 epochs.

    python tools/main.py --config configs/uniad/uniad_256.py --cls_names all

As in ADer: `--model.window 8 --trainer.clip 5.0`; its window of 8 masks 9 x 9 tokens.
Cost: two fifths of uniad_224. Published (ADer, MVTec AD, mean of 15): image AUROC 96.8, pixel AUROC 96.8, AUPRO 91.0.
Not measured here yet.
"""

from anoframe.config import inherit

cfg = inherit("uniad_224_300e.py")
cfg.data.resize = 256
cfg.data.crop = 256
