"""PaDiM with the settings of its paper; see anoframe/models/padim/model.py."""

from anoframe.config import ConfigDict, inherit

cfg = inherit("default.py")
with cfg.unlocked():
    cfg.model = ConfigDict()
    cfg.model.name = "padim"

    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "wide_resnet50_2"
    cfg.model.backbone.weights = "default"  # torchvision's V1 weights for this backbone
    cfg.model.backbone.levels = (1, 2, 3)  # strides 4, 8 and 16: layer1 to layer3 of a ResNet
    cfg.model.backbone.precision = "float32"  # or "bfloat16", on processors that support it
    cfg.model.backbone.compile = False  # True: a minute or two for compilation, then a tenth faster
    cfg.model.backbone.engine = "torch"  # or "onnxruntime", "openvino": faster on a CPU, docs/runs.md

    cfg.model.num_channels = 550  # random subset of the channels of all levels; memory and time grow with its square
    cfg.model.regularization = 0.01  # added to the diagonal of each covariance, above 0
    cfg.model.sigma = 4.0  # of the Gaussian on the map, in pixels
