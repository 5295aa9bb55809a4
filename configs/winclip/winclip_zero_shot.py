"""WinCLIP without any training image: the name of the category is all it needs.

    python tools/main.py --config configs/winclip/winclip_zero_shot.py --cls_names bottle

Cost: about 13 forward passes of ViT-B/16+ per image, once; features are cached (1.74 MB per image) and shared by all
winclip configs. Published for MVTec AD, mean of 15 categories: image AUROC 91.8, pixel AUROC 85.1, AUPRO 64.6 %.
"""

from anoframe.config import inherit

cfg = inherit("__base__/winclip.py")
