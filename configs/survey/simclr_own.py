"""SimCLR on the normal training images of product data, for the survey of encoders: 96 pixels, a budget of minutes.

    python tools/pretrain.py --config configs/survey/simclr_own.py --data.name mvtec --data.root DIR --data.also visa:DIR

Cost: 8 epochs of 2,161 images take about eight minutes of one core with AVX-512 BF16. Expected: docs/backbones.md.
"""

from anoframe.config import inherit

cfg = inherit("../simclr/simclr_resnet18_industrial.py")
cfg.data.resize = 128
cfg.data.crop = 128
cfg.views.size = 96
cfg.trainer.epochs = 8
cfg.trainer.batch_size = 128
cfg.trainer.optimizer.lr = 0.001
cfg.trainer.schedule.warmup_epochs = 1.0
cfg.trainer.precision = "bfloat16"
cfg.trainer.channels_last = True
