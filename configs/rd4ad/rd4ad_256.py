"""RD4AD as published: WideResNet-50-2, 256 x 256, Adam for 200 epochs at one learning rate, a model a category.

    python tools/main.py --config configs/rd4ad/rd4ad_256.py --cls_names bottle

Cost: 83.8 million parameters, for a GPU: on one core of a CPU an image takes 5 s, and bottle has 41,800 in 200 epochs.
Features take 7.3 MB an image (bottle: 1.5 GB to train, 0.6 GB to test).
Published on MVTec AD (mean of 15): image AUROC 98.5, pixel AUROC 97.8, PRO a single image 93.9 (`pro_per_image` here).
Not measured here yet.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/rd4ad.py")
