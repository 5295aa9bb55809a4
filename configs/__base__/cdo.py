"""CDO with the settings of its code of 2025; see docs/cdo.md."""

from anoframe.config import ConfigDict, inherit

cfg = inherit("gradient.py")
cfg.data.crop = 256  # the whole resized image
cfg.threshold.held_back = 0.0  # a threshold needs a second training, so twice the time: --threshold.held_back 0.2

cfg.trainer.epochs = 100
cfg.trainer.batch_size = 32
cfg.trainer.optimizer.name = "adam"
cfg.trainer.optimizer.lr = 0.001  # 0.0005 times batch size / 16
cfg.trainer.optimizer.weight_decay = 0.05
cfg.trainer.optimizer.decay_vectors = True
cfg.trainer.optimizer.betas = (0.5, 0.999)
cfg.trainer.schedule.name = "step"  # a tenth after 80 % of the epochs

with cfg.unlocked():
    cfg.model = ConfigDict()
    cfg.model.name = "cdo"

    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "hrnet_w32"  # the expert; the apprentice has the same architecture
    cfg.model.backbone.weights = "default"
    cfg.model.backbone.levels = (1, 2, 3)  # strides 4, 8 and 16: the first three branches of an HRNet
    cfg.model.backbone.precision = "float32"  # or "bfloat16", on processors that support it
    cfg.model.backbone.compile = False
    cfg.model.backbone.engine = "torch"  # or "onnxruntime", "openvino": faster on a CPU, docs/runs.md

    cfg.model.synthesis = ConfigDict()  # the defects of the training; names and arguments: docs/synthesis.md
    cfg.model.synthesis.name = "cdo"  # rectangles of noise

    cfg.model.margin = True  # MOM: push synthetic defects apart; False: imitate the expert on normal images only
    cfg.model.gamma = 2.0  # OOM: exponent of the weights; 0: off
    cfg.model.sigma = 4.0  # of the Gaussian on the map, in pixels
    cfg.model.top_share = 0.01  # the score is the mean of this share of the largest values of the map; 0: the maximum
