"""CDO (Cao et al., IEEE Transactions on Industrial Informatics 2023) as in its code of 2025, on HRNet-32.

    python tools/main.py --config configs/cdo/cdo_256.py --cls_names bottle --data.root MVTec

Cost: each step runs the expert forward and the apprentice forward and backward, for 100 epochs: use a GPU. The weights
of HRNet-32 come from the hub or a file. Published for MVTec AD: 99.13 image AUROC, 98.12 pixel AUROC, 94.30 AUPRO; not
measured here.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/cdo.py")
