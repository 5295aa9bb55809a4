"""Base of configs for detectors that are trained by gradient descent; anoframe/training/loop.py runs the training."""

from anoframe.config import ConfigDict, inherit, placeholder

cfg = inherit("default.py")
with cfg.unlocked():
    cfg.trainer = ConfigDict()
    cfg.trainer.epochs = 100  # passes over the training images; the last epoch is reported
    cfg.trainer.steps = placeholder(int)  # length in optimiser steps, instead of epochs
    cfg.trainer.least_steps = 0  # continue after the last epoch until this number of steps is reached
    cfg.trainer.batch_size = 16  # images per optimiser step, over all devices; changes the result
    cfg.trainer.accumulate = 1  # number of parts a batch is computed in, one after another: less memory
    cfg.trainer.clip = 0.0  # maximum gradient norm; 0: no clipping

    cfg.trainer.optimizer = ConfigDict()
    cfg.trainer.optimizer.name = "adam"  # an optimiser of torch or timm, by its name in timm
    cfg.trainer.optimizer.lr = 0.001
    cfg.trainer.optimizer.weight_decay = 0.0  # of weights; biases and norms are excluded
    cfg.trainer.optimizer.decay_vectors = False  # True: weight decay for biases and norms too, as in plain AdamW
    cfg.trainer.optimizer.betas = placeholder(tuple)  # None: the optimiser's default; some optimisers have no betas

    cfg.trainer.schedule = ConfigDict()  # of the learning rate, set before each step
    cfg.trainer.schedule.name = "constant"  # or "step", "cosine"
    cfg.trainer.schedule.warmup_epochs = 0.0  # linear rise from a thousandth of the learning rate
    cfg.trainer.schedule.warmup_steps = placeholder(int)  # length of the warm-up in steps, instead of epochs
    # "step": epochs between two decays, relative to `epochs`; with `steps` or `least_steps` the same share of the steps
    cfg.trainer.schedule.decay_epochs = cfg.trainer.get_ref("epochs").to_float() * 0.8
    cfg.trainer.schedule.decay_rate = 0.1  # "step": factor of each decay
    cfg.trainer.schedule.final_lr = 0.0  # "cosine": last learning rate; at most `lr`

    cfg.trainer.precision = "float32"  # or "bfloat16" if the device supports it; "float16" on a GPU
    cfg.trainer.compile = False  # True: compiles for a minute or more, then steps are faster
    cfg.trainer.channels_last = False  # memory layout of feature maps; True is faster for some networks, see docs
    cfg.trainer.sync_batchnorm = True  # on several devices: statistics of the whole batch, not of each device's shard

    cfg.trainer.evaluate_every = 0  # epochs between evaluations on the test images, for curves only; 0: none
    cfg.trainer.select = "last"  # "best_on_test": report the best of these evaluations, a choice made on test data
    # best_on_test: the mean of this over the categories chooses. "summary": of image AUROC, pixel AUROC and AUPRO; or
    # the name of one image or pixel metric: the authors of some methods choose by "pixel_auroc"
    cfg.trainer.select_metric = "summary"
    cfg.trainer.save_minutes = 10.0  # between states to resume from; one is always saved at the end of a phase

    cfg.trainer.phases = ConfigDict()  # phase name -> keys of this section that differ for this phase
