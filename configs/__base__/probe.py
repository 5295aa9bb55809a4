"""Base of configs that evaluate an encoder by classification; tools/evaluate_encoder.py runs them."""

from anoframe.config import ConfigDict, inherit, placeholder

cfg = inherit("pretraining.py")
with cfg.unlocked():
    for section in ("learner", "views", "trainer"):  # of pretraining
        del cfg[section]
    for key in ("also", "exclude", "resize", "crop"):
        del cfg.data[key]
    cfg.data.name = "cifar10"
    cfg.data.size = placeholder(int)  # pixels; None: the image size that the encoder was trained with, or 224
    cfg.data.batch_size = 64  # images per forward pass

    cfg.encoder = ConfigDict()
    cfg.encoder.name = placeholder(str)  # exported:PATH, or a timm model
    cfg.encoder.weights = "default"  # of a timm model: default, random, a path, ...
    cfg.encoder.stem = "imagenet"  # of a timm model with random weights: imagenet | small

    cfg.probes = ConfigDict()  # name -> its arguments
    cfg.probes.linear = ConfigDict()
    cfg.probes.linear.epochs = 100
    cfg.probes.linear.lr = 0.0003
    cfg.probes.linear.weight_decay = 0.0008
    cfg.probes.linear.batch_size = 256
    cfg.probes.linear.standardise = False  # True: scale each feature first, for encoders with small features
    cfg.probes.knn = ConfigDict()
    cfg.probes.knn.k = 20
    cfg.probes.knn.temperature = 0.07
