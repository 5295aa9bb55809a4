"""SimCLR on CIFAR-10 for the survey of encoders: 32 pixels, the ImageNet stem, a budget of minutes on one CPU core.

    python tools/pretrain.py --config configs/survey/simclr_cifar10.py --data.name npz --data.root FILE

The ImageNet stem makes an epoch more than ten times cheaper than the stem for small images, and the encoder has the
strides that detectors expect. With so few steps, small batches and a larger learning rate are used.
Cost and results: docs/backbones.md.
"""

from anoframe.config import inherit

cfg = inherit("../simclr/simclr_resnet18_32px.py")
cfg.encoder.stem = "imagenet"
cfg.trainer.epochs = 16
cfg.trainer.batch_size = 128
cfg.trainer.optimizer.lr = 0.001
cfg.trainer.schedule.warmup_epochs = 1.0
cfg.trainer.precision = "bfloat16"
cfg.trainer.channels_last = True
