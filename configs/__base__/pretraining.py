"""Base of configs that pretrain an encoder; see docs/pretraining.md. tools/pretrain.py runs them."""

from anoframe.config import ConfigDict, inherit, placeholder

cfg = inherit("gradient.py")
with cfg.unlocked():
    for section in ("categories", "protocol", "evaluation", "threshold", "report"):  # of detectors
        del cfg[section]

    cfg.data = ConfigDict()
    cfg.data.name = "images"  # images | classes | npz | cifar10 | cifar100 | stl10 | fashion_mnist | a dataset ...
    cfg.data.root = placeholder(str)  # folder or file
    cfg.data.also = ()  # further data, KIND:PATH each: ("mvtec:data/mvtec", "images:photos")
    cfg.data.exclude = ()  # KIND:PATH each: images that are also in the test split of these data are left out, by hash
    cfg.data.resize = 256  # pixels; the images that views are drawn from
    cfg.data.crop = 256  # pixels; at most `resize`
    cfg.data.keep_aspect = False  # True: the shorter side gets `resize` pixels, and the centre square is kept
    cfg.data.interpolation = "bilinear"  # bilinear | bicubic
    cfg.data.jpeg_draft = False  # True: decode large JPEGs at a reduced size
    cfg.data.workers = -1  # processes that draw views; they change no result

    cfg.encoder = ConfigDict()
    cfg.encoder.architecture = "resnet18"  # any timm model, without its classifier
    cfg.encoder.weights = "random"  # or initial weights: default, hub, a path, package:NAME
    cfg.encoder.stem = "imagenet"  # "small": for images of about 32 pixels, stride 1 and no max-pooling
    cfg.encoder.mean = (0.485, 0.456, 0.406)  # of the normalisation, part of the export
    cfg.encoder.std = (0.229, 0.224, 0.225)

    cfg.views = ConfigDict()
    cfg.views.preset = "paper"  # paper | industrial (no flips, larger crops); the keys below replace values of it
    cfg.views.size = 224  # pixels; side of a view, and input size of the encoder
    cfg.views.scale = placeholder(tuple)  # bounds of a crop's share of the image area
    cfg.views.ratio = placeholder(tuple)  # bounds of its width / height
    cfg.views.flip = placeholder(float)  # probability of a horizontal flip
    cfg.views.vertical_flip = placeholder(float)
    cfg.views.jitter = placeholder(tuple)  # brightness, contrast, saturation, hue
    cfg.views.jitter_p = placeholder(float)
    cfg.views.gray_p = placeholder(float)
    cfg.views.blur_p = placeholder(float)
    cfg.views.blur_sigma = placeholder(tuple)  # pixels

    cfg.learner = ConfigDict()  # `name`, and the arguments of its class

cfg.trainer.epochs = 100
cfg.trainer.batch_size = 256
cfg.trainer.optimizer.name = "adam"
cfg.trainer.optimizer.lr = 0.0003
cfg.trainer.optimizer.weight_decay = 0.0001
cfg.trainer.schedule.name = "cosine"  # over the whole run, set before each step
cfg.trainer.schedule.warmup_epochs = 10.0
