"""PaDiM on HRNet-W32, 100 of 224 channels of its branches of strides 4, 8 and 16.

    python tools/main.py --config configs/padim/padim_hrnet32_224.py --cls_names bottle

The weights come from the hub or a file. Cost as padim_resnet18_224: 77 MB per category. Not run here, not published.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/padim.py")
cfg.model.backbone.name = "hrnet_w32"
cfg.model.num_channels = 100
