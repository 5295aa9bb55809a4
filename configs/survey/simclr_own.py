"""SimCLR on the normal training images of product data, for the survey of encoders: 96 pixels, a budget of minutes.

    python tools/pretrain.py --config configs/survey/simclr_own.py --data.name mvtec --data.root DIR

Cost: docs/backbones.md. With so few images, small batches give more steps per epoch.
"""

from anoframe.config import inherit

cfg = inherit("../simclr/simclr_resnet18_industrial.py")
cfg.data.resize = 128
cfg.data.crop = 128
cfg.views.size = 96
cfg.trainer.epochs = 5
cfg.trainer.batch_size = 64
cfg.trainer.optimizer.lr = 0.001
cfg.trainer.schedule.warmup_epochs = 1.0
cfg.trainer.precision = "bfloat16"
cfg.trainer.channels_last = True
