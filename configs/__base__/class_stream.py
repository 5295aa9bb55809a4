"""Base of configs for classes of labelled images that arrive task by task; see docs/class_incremental.md."""

from anoframe.config import ConfigDict, inherit, placeholder

cfg = inherit("gradient.py")
with cfg.unlocked():
    for section in ("categories", "threshold"):  # of anomaly detectors
        del cfg[section]

    cfg.protocol = ConfigDict()
    cfg.protocol.name = "class_incremental"
    cfg.protocol.tasks = "5x2"  # 5 tasks of 2 classes, in alphabetical order; or "a,b;c,d": the classes of each task
    cfg.protocol.order_seed = placeholder(int)  # shuffles the classes over the tasks; None keeps the order
    cfg.protocol.strategy = "native"  # native: task by task | frozen: after the first task | joint: all tasks at once

    cfg.data = ConfigDict()
    cfg.data.name = "cifar10"  # cifar10 | cifar100 | npz | classes (class folders below train/ and test/) | ...
    cfg.data.root = placeholder(str)  # folder or file
    cfg.data.resize = 224  # pixels
    cfg.data.crop = 224  # pixels; at most `resize`
    cfg.data.keep_aspect = True  # the shorter side gets `resize` pixels, and the centre square is kept
    cfg.data.interpolation = "bicubic"  # bilinear | bicubic
    cfg.data.jpeg_draft = False  # True: decode large JPEGs at a reduced size
    cfg.data.batch_size = 64  # images per forward pass of the encoder; changes memory and speed, not results

    cfg.evaluation = ConfigDict()
    cfg.evaluation.mixed_batch_size = 32  # images of all seen classes, shuffled, that a method may compute together
    cfg.evaluation.bins = 15  # of the calibration error

    cfg.report = ConfigDict()
    cfg.report.exemplars = 10  # shown per class

    cfg.model = ConfigDict()
    cfg.model.name = "class_incremental"
    cfg.model.backbone = ConfigDict()  # as for a detector; feature maps are pooled to one vector per image
    cfg.model.text = ConfigDict()  # of methods that compare images with texts
    cfg.model.classifier = ConfigDict()  # `name`, and arguments of its class
