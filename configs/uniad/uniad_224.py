"""UniAD as published: EfficientNet-b4, 224 x 224, 1000 epochs of batches of 8, one model for all categories.

    python tools/main.py --config configs/uniad/uniad_224.py --cls_names all

Cost: 7.7 million parameters, for a GPU: 1000 epochs on MVTec AD are 454,000 steps. Features take 0.2 MB per image.
Published on MVTec AD (mean of 15): image AUROC 96.5, pixel AUROC 96.8; the authors' code on one GPU 97.6 and 97.0.
Not measured here yet.
The authors resize masks to the nearest pixel, which no `data.mask_rule` does; `half`, the default, keeps the area of
defects as well.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/uniad.py")
