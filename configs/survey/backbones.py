"""Survey of encoders: do encoders trained on one's own images serve anomaly detection better than ImageNet's?

    python tools/survey.py --config configs/survey/backbones.py --detection.set.data.root DIR \
        --encoders.simclr_own.set.data.root DIR --encoders.simclr_cifar10.set.data.root FILE \
        --classification.cifar10.set.data.root FILE --classification.cifar10_64.set.data.root FILE

Cost, three seeds: docs/backbones.md. RD4AD trains a network per cell and is off; turn it on with
`--detection.methods.rd4ad.enable True`.
"""

from anoframe.config import ConfigDict, inherit, placeholder

cfg = inherit("../__base__/survey.py")
cfg.seeds = (0, 1, 2)


def _images(kind, **keys):
    """Keys of a `data` section; each call has its own root."""
    return {"name": kind, "root": placeholder(str), "workers": -1, **keys}


def _pretrain(config, images):
    """An encoder that this survey trains, or takes with `source exported` and `path RUNS/{seed}`."""
    changes = {"data": images, "trainer": {"epochs": placeholder(int)}}
    return ConfigDict({"source": "pretrain", "config": config, "set": changes, "path": "", "enable": True})


with cfg.unlocked():
    cfg.encoders.random = ConfigDict({"source": "random", "architecture": "resnet18"})
    cfg.encoders.simclr_cifar10 = _pretrain("survey/simclr_cifar10.py", _images("npz"))
    cfg.encoders.simclr_own = _pretrain("survey/simclr_own.py", _images("mvtec", also=()))
    cfg.encoders.imagenet_lite0 = ConfigDict({"source": "imagenet", "architecture": "tf_efficientnet_lite0"})
    cfg.encoders.imagenet_lite2 = ConfigDict({"source": "imagenet", "architecture": "tf_efficientnet_lite2"})

    cfg.classification.cifar10 = ConfigDict({"config": "probe/probe.py", "set": {"data": _images("npz", size=32)}})
    # enlarged: at 32 pixels the last feature map of an EfficientNet-Lite has one location
    cfg.classification.cifar10_64 = ConfigDict({"config": "probe/probe.py", "set": {"data": _images("npz", size=64)}})

    # 128 pixels without a crop: a third of the cost of 224, and near the size that own encoders are trained at
    images = _images("mvtec", resize=128, crop=128, keep_aspect=False)
    cfg.detection.set = ConfigDict({"data": images, "report": {"pictures": 3}})
    cfg.detection.set.threshold = ConfigDict({"held_back": 0.0})  # decisions are not compared
    cfg.detection.set.model = ConfigDict({"backbone": {"engine": "torch"}})  # methods share the cached features
    cfg.detection.methods.padim = ConfigDict({"config": "padim/padim_resnet18_224.py", "enable": True})
    cfg.detection.methods.patchcore = ConfigDict({"config": "patchcore/patchcore_lite0_224.py", "enable": True})
    cfg.detection.methods.rd4ad = ConfigDict(
        {"config": "rd4ad/rd4ad_lite0_256.py", "set": {"trainer": {"epochs": 30}}, "enable": False}
    )
