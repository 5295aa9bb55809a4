"""UniAD with the settings of its reference code; see docs/uniad.md."""

from anoframe.config import ConfigDict, inherit, placeholder

cfg = inherit("gradient.py")
cfg.protocol.name = "unified"  # one model for all categories
cfg.data.resize = 224  # resize both sides; nothing is cropped
cfg.data.crop = 224
cfg.threshold.held_back = 0.0  # a threshold needs a second training, twice the time: --threshold.held_back 0.2

cfg.trainer.epochs = 1000
cfg.trainer.batch_size = 8  # as on one GPU; the published run had 8 per process on 8 GPUs: 64 images per step
cfg.trainer.clip = 0.1
cfg.trainer.optimizer.name = "adamw"
cfg.trainer.optimizer.lr = 1e-4
cfg.trainer.optimizer.weight_decay = 1e-4
cfg.trainer.optimizer.decay_vectors = True
cfg.trainer.optimizer.betas = (0.9, 0.999)
cfg.trainer.schedule.name = "step"  # a tenth of the learning rate in the last fifth of training

with cfg.unlocked():
    cfg.model = ConfigDict()
    cfg.model.name = "uniad"

    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "tf_efficientnet_b4.aa_in1k"
    cfg.model.backbone.weights = "default"
    cfg.model.backbone.levels = (0, 1, 2, 3)  # strides 2, 4, 8 and 16: 272 channels of an EfficientNet-b4
    cfg.model.backbone.precision = "float32"  # or "bfloat16", if the processor supports it
    cfg.model.backbone.compile = False  # True: one or two minutes at the start, then a tenth faster
    cfg.model.backbone.engine = "torch"  # or "onnxruntime", "openvino": faster on a CPU, docs/runs.md

    cfg.model.image_size = cfg.data.get_oneway_ref("crop")  # fixed: each position has its own learned queries
    cfg.model.stride = 16  # side of a token in pixels: 14 x 14 tokens
    cfg.model.width = 256
    cfg.model.heads = 8
    cfg.model.hidden = 1024  # width inside the feed-forward networks
    cfg.model.encoder_layers = 4
    cfg.model.decoder_layers = 4
    cfg.model.dropout = 0.1
    cfg.model.window = 7  # tokens; side of the square that attention does not see; even acts as the next odd
    cfg.model.mask_encoder = True  # mask that square in the encoder
    cfg.model.mask_first = True  # mask it in the decoder's attention to the encoder output
    cfg.model.mask_second = True  # mask it in the decoder's attention to the previous layer
    cfg.model.position = "learned"  # or "sine"
    cfg.model.image_score = "max"  # of averages over 16 x 16 pixels; or "mean" or "std" of the map

    cfg.model.jitter = ConfigDict()
    cfg.model.jitter.alpha = 20.0  # noise strength; the noise norm is 1.2 times the token norm with 272 channels
    cfg.model.jitter.p = 1.0  # probability that a batch gets noise

    cfg.model.memory = ConfigDict()
    cfg.model.memory.kind = "none"  # "series": between encoder and decoder; "prototype": see docs/uniad.md
    cfg.model.memory.slots = 256
    cfg.model.memory.topk = placeholder(int)  # number of slots that are mixed; None: all
    cfg.model.memory.shrink = 0.0  # slot weights up to this value become zero
    cfg.model.memory.entropy = 0.0  # loss weight of the entropy of the slot weights
