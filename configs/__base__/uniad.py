"""UniAD with the settings of its reference code; see docs/uniad.md."""

from anoframe.config import ConfigDict, inherit, placeholder

cfg = inherit("gradient.py")
cfg.protocol.name = "unified"  # one model for all categories
cfg.data.resize = 224  # both sides: nothing is cut off
cfg.data.crop = 224
cfg.threshold.held_back = 0.0  # deciding takes a second training, hence twice the time: --threshold.held_back 0.2

cfg.trainer.epochs = 1000
cfg.trainer.batch_size = 8
cfg.trainer.clip = 0.1
cfg.trainer.optimizer.name = "adamw"
cfg.trainer.optimizer.lr = 1e-4
cfg.trainer.optimizer.weight_decay = 1e-4
cfg.trainer.optimizer.decay_vectors = True
cfg.trainer.optimizer.betas = (0.9, 0.999)
cfg.trainer.schedule.name = "step"  # a tenth for the last fifth

with cfg.unlocked():
    cfg.model = ConfigDict()
    cfg.model.name = "uniad"

    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "tf_efficientnet_b4.aa_in1k"
    cfg.model.backbone.weights = "default"
    cfg.model.backbone.levels = (0, 1, 2, 3)  # strides 2, 4, 8 and 16: 272 channels of an EfficientNet-b4
    cfg.model.backbone.precision = "float32"  # or "bfloat16", where the processor has it
    cfg.model.backbone.compile = False  # True: a minute or two at first, a tenth faster afterwards

    cfg.model.image_size = cfg.data.get_ref("crop")  # every place of it has queries of its own
    cfg.model.stride = 16  # pixels of a token's side: 14 x 14 tokens
    cfg.model.width = 256
    cfg.model.heads = 8
    cfg.model.hidden = 1024  # width inside the feed-forward part
    cfg.model.encoder_layers = 4
    cfg.model.decoder_layers = 4
    cfg.model.dropout = 0.1
    cfg.model.window = 7  # tokens of the side of the square that attention does not see; an even one is one larger
    cfg.model.mask_encoder = True  # False: the encoder sees it
    cfg.model.mask_first = True  # the decoder's attention to the encoder's output
    cfg.model.mask_second = True  # the decoder's attention to the layer before
    cfg.model.position = "learned"  # or "sine"
    cfg.model.image_score = "max"  # of averages over 16 x 16 pixels; "mean" or "std" of the map

    cfg.model.jitter = ConfigDict()
    cfg.model.jitter.alpha = 20.0  # the noise is 1.2 times as long as a token of 272 channels
    cfg.model.jitter.p = 1.0  # of a batch

    cfg.model.memory = ConfigDict()
    cfg.model.memory.kind = "none"  # "series": between encoder and decoder; "prototype": see docs/uniad.md
    cfg.model.memory.slots = 256
    cfg.model.memory.topk = placeholder(int)  # None: all slots are mixed
    cfg.model.memory.shrink = 0.0  # weights up to this become zero
    cfg.model.memory.entropy = 0.0  # weight of their entropy in the loss
