"""PaDiM on HRNet-W32, 300 of 896 channels of strides 4, 8 and 16.

    python tools/main.py --config configs/padim/padim_hrnet32_224.py --cls_names bottle

timm's levels of an HRNet are its three finest branches after the layers that widen them for classification (128, 256
and 512 channels), not the branches themselves. The checkpoint of a category takes 680 MB. Expected: not published.
"""

from anoframe.config import inherit

cfg = inherit("padim_224.py")
cfg.model.backbone.name = "hrnet_w32"
cfg.model.num_channels = 300
