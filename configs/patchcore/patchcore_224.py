"""PatchCore as published: WideResNet-50-2, images of 256 pixels cropped to 224, 10 % of the patches.

    python tools/main.py --config configs/patchcore/patchcore_224.py --cls_names bottle

Cost: one pass of the encoder over all images; for bottle 163,856 patches of 4 kB (671 MB) and a bank of 16,385 (67 MB).
Published on MVTec AD (mean of 15, reference code, seed 0): image AUROC 99.2, pixel AUROC 98.1, AUPRO 94.4.
The reference code counts a pixel as defect only if its resized mask is full there: `--data.mask_rule covered`. The
default, `half`, marks larger defects and gives other pixel metrics.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/patchcore.py")
with cfg.unlocked():
    cfg.model.squared = False  # True: squared distances, which give the maps of the reference code
