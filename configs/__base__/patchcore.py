"""PatchCore with the settings of its reference code; see docs in anoframe/models/patchcore/model.py."""

from anoframe.config import ConfigDict, inherit

cfg = inherit("default.py")
with cfg.unlocked():
    cfg.model = ConfigDict()
    cfg.model.name = "patchcore"

    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "wide_resnet50_2"
    cfg.model.backbone.weights = "default"  # torchvision's V1 weights for this backbone, as published
    cfg.model.backbone.levels = (2, 3)  # strides 8 and 16: layer2 and layer3 of a ResNet
    cfg.model.backbone.precision = "float32"  # or "bfloat16", where the processor has it
    cfg.model.backbone.compile = False  # True: a minute or two at first, a tenth faster afterwards

    cfg.model.embedding = ConfigDict()
    cfg.model.embedding.method = "pooled"  # or "concat", as anomalib does
    cfg.model.embedding.pretrain_dim = 1024
    cfg.model.embedding.target_dim = 1024

    cfg.model.coreset = ConfigDict()
    cfg.model.coreset.ratio = 0.1  # share of all training patches that the bank keeps
    cfg.model.coreset.method = "approximate"  # or "exact"; all published runs used the approximate start
    cfg.model.coreset.projection_dim = 128  # width on which the selection is made
    cfg.model.coreset.start_points = 10

    cfg.model.neighbours = 1
    cfg.model.image_score = "max"  # or "reweight", the paper's equation 7, which its code does not use
    cfg.model.reweight_neighbours = 9
    cfg.model.sigma = 4.0  # pixels
    cfg.model.search = "torch"  # or "faiss", an extra: what finds neighbours; the result is the same
