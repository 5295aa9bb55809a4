"""RD4AD with the settings of its reference code; see docs/rd4ad.md."""

from anoframe.config import ConfigDict, inherit, placeholder

cfg = inherit("gradient.py")
cfg.data.crop = 256  # the whole resized image
cfg.threshold.held_back = 0.0  # a threshold needs a second training, so twice the time: --threshold.held_back 0.2

cfg.trainer.epochs = 200
cfg.trainer.optimizer.lr = 0.005
cfg.trainer.optimizer.betas = (0.5, 0.999)

with cfg.unlocked():
    cfg.model = ConfigDict()
    cfg.model.name = "rd4ad"

    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "wide_resnet50_2"
    cfg.model.backbone.weights = "default"  # torchvision's V1 weights for this backbone, as published
    cfg.model.backbone.levels = (1, 2, 3)  # strides 4, 8 and 16: layer1 to layer3 of a ResNet
    cfg.model.backbone.precision = "float32"  # or "bfloat16", on processors that support it
    cfg.model.backbone.compile = False  # True: a minute or two for compilation, then a tenth faster
    cfg.model.backbone.engine = "torch"  # or "onnxruntime", "openvino": faster on a CPU, docs/runs.md

    cfg.model.loss = "flat"  # one cosine per level, as in the code; "local": one per location, as in the paper
    cfg.model.combine = "sum"  # or "product" of the levels' maps
    cfg.model.heads = "auto"  # or "relu", "linear"; auto: linear for signed levels of the teacher
    cfg.model.fuse = True  # False: the code is computed from the deepest level alone
    cfg.model.width = 0.5  # inner width of a block as a share of its output; 0.25 for a ResNet-50
    cfg.model.code_width = placeholder(float)  # the same for the embedding; None: equal to width
    cfg.model.depths = placeholder(tuple)  # blocks per level, deepest first; None: (3, 4, 6) for three levels, else 3
    cfg.model.block = "bottleneck"  # or "basic", for a ResNet-18 or 34
    cfg.model.code_depth = 3  # blocks of the embedding; 2 for a ResNet-18
    cfg.model.sigma = 4.0  # of the Gaussian on the map, in pixels
