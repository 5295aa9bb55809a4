"""RAML with the settings of its source; see docs/raml.md. It learns from labelled defects of the test set."""

from anoframe.config import ConfigDict, inherit

cfg = inherit("gradient.py")
cfg.protocol.name = "unified"  # one model for all categories
cfg.data.split_seed = 42
cfg.data.resize = 896  # four tiles of 224: the pyramid sees 1, 4 and 16 times the pixels of CLIP's input
cfg.data.crop = 896
cfg.data.interpolation = "bicubic"
cfg.cache.images = False  # 2.4 MB per image of 896 pixels, and each is read once: 21 crops take 43 kB as features
cfg.threshold.held_back = 0.0  # a threshold needs a second training: --threshold.held_back 0.2

cfg.trainer.epochs = 25
cfg.trainer.batch_size = 16  # changes the result: centre, spread and contrastive term depend on the whole batch
cfg.trainer.clip = 1.0
cfg.trainer.optimizer.name = "adamw"
cfg.trainer.optimizer.lr = 5e-5
cfg.trainer.optimizer.weight_decay = 0.02
cfg.trainer.optimizer.decay_vectors = True

with cfg.unlocked():
    cfg.data.split = "raml"  # training: all train images, and four fifths of the test images with their labels

    cfg.model = ConfigDict()
    cfg.model.name = "raml"
    cfg.model.tile_size = 224  # pixels; side of a crop, the input of the encoder
    cfg.model.head = "raml"  # or "linear": logistic regression on the features of the whole image

    cfg.model.pyramid = ConfigDict()
    cfg.model.pyramid.mode = "true"  # tiles of the large image; "tiles224": of the small one; "reference": public code
    cfg.model.pyramid.scales = (1, 4, 16)  # crops per image at each scale; or (1, 4), or (1,)
    cfg.model.pyramid.hidden = 256
    cfg.model.pyramid.heads = 4
    cfg.model.pyramid.dropout = 0.1

    cfg.model.text = ConfigDict()
    cfg.model.text.weight = 0.15  # share of the text score in the image score
    cfg.model.text.fusion = True  # visual features attend to the text features
    cfg.model.text.normal = "a photo of a flawless {}"
    cfg.model.text.defect = "a photo of a damaged {}"
    cfg.model.text.replace_underscores = False  # True: "metal nut" instead of "metal_nut"

    cfg.model.loss = ConfigDict()
    cfg.model.loss.maccl = True  # False: binary cross-entropy alone
    cfg.model.loss.reduction = "reference"  # one mean over the batch; "per_term": a mean per term, as in the text
    cfg.model.loss.margin_base = 0.5
    cfg.model.loss.margin_sigma = 0.3  # factor of the spread of normal features
    cfg.model.loss.margin_resolution = 0.3  # factor of 1 - resolution / max_resolution
    cfg.model.loss.resolution = 224  # pixels; side of the encoder's input
    cfg.model.loss.max_resolution = 900  # pixels; side of the photographs
    cfg.model.loss.centre = 1.0  # weights of the three terms
    cfg.model.loss.margin = 1.0
    cfg.model.loss.contrastive = 0.5
    cfg.model.loss.temperature = 0.07  # of the contrastive term
    cfg.model.loss.tracker = True  # weight categories by their difficulty
