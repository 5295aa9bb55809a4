"""PatchCore with the settings of its reference code; see anoframe/models/patchcore/model.py."""

from anoframe.config import ConfigDict, inherit

cfg = inherit("default.py")
with cfg.unlocked():
    cfg.model = ConfigDict()
    cfg.model.name = "patchcore"

    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "wide_resnet50_2"
    cfg.model.backbone.weights = "default"  # torchvision's V1 weights for this backbone, as published
    cfg.model.backbone.levels = (2, 3)  # strides 8 and 16: layer2 and layer3 of a ResNet
    cfg.model.backbone.precision = "float32"  # or "bfloat16", on processors that support it
    cfg.model.backbone.compile = False  # True: a minute or two for compilation, then a tenth faster
    cfg.model.backbone.engine = "torch"  # or "onnxruntime", "openvino": faster on a CPU, docs/runs.md

    cfg.model.embedding = ConfigDict()
    cfg.model.embedding.method = "pooled"  # or "concat", as in anomalib
    cfg.model.embedding.pretrain_dim = 1024
    cfg.model.embedding.target_dim = 1024
    cfg.model.embedding.patch_size = 3  # side of a neighbourhood in locations of its level, an odd number

    cfg.model.coreset = ConfigDict()
    cfg.model.coreset.ratio = 0.1  # share of all training patches in the bank
    cfg.model.coreset.method = "approximate"  # or "exact"; all published runs used the approximate start
    cfg.model.coreset.projection_dim = 128  # width of the projected patches used for the selection
    cfg.model.coreset.start_points = 10  # random rows of the approximate start

    cfg.model.neighbours = 1
    cfg.model.image_score = "max"  # or "reweight", the paper's equation 7, which its code does not use
    cfg.model.reweight_neighbours = 9
    cfg.model.sigma = 4.0  # of the Gaussian on the map, in pixels
    cfg.model.search = "torch"  # or "faiss", an optional dependency: engine of the search; results are the same
