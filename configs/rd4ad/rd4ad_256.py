"""RD4AD as published: WideResNet-50-2, 256 x 256, Adam for 200 epochs, constant learning rate, one model per category.

    python tools/main.py --config configs/rd4ad/rd4ad_256.py --cls_names bottle

Cost: 83.8 million parameters, for a GPU: one core of a CPU takes 5 s per image, and 200 epochs of bottle are 41,800
images. Features take 7.3 MB per image (bottle: 1.5 GB for training, 0.6 GB for the test).
Published on MVTec AD (mean of 15): image AUROC 98.5, pixel AUROC 97.8, PRO per image 93.9 (`pro_per_image` here).
Not measured here yet.
The authors resize masks as images and count values above one half as defect: `data.mask_rule` half, the default.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/rd4ad.py")
