"""What configs of detectors that learn by gradient descent have besides: see anoframe/training/loop.py."""

from anoframe.config import ConfigDict, inherit, placeholder

cfg = inherit("default.py")
with cfg.unlocked():
    cfg.trainer = ConfigDict()
    cfg.trainer.epochs = 100  # how often each training image is seen; the last epoch is what is reported
    cfg.trainer.steps = placeholder(int)  # length of training in steps of the optimiser, instead of epochs
    cfg.trainer.least_steps = 0  # train on past the last epoch until so many steps are done
    cfg.trainer.batch_size = 16  # images a step of the optimiser, over all devices; changes the result
    cfg.trainer.accumulate = 1  # in so many parts, one after another: less memory
    cfg.trainer.clip = 0.0  # longest gradient; 0 leaves it as it is

    cfg.trainer.optimizer = ConfigDict()
    cfg.trainer.optimizer.name = "adam"  # of torch or timm, by timm's name for it
    cfg.trainer.optimizer.lr = 0.001
    cfg.trainer.optimizer.weight_decay = 0.0  # of weights; biases and norms are left out
    cfg.trainer.optimizer.decay_vectors = False  # True: they decay too, as plain AdamW has it
    cfg.trainer.optimizer.betas = placeholder(tuple)  # None leaves it to the optimiser, which some do not have

    cfg.trainer.schedule = ConfigDict()  # of the learning rate, anew at each step
    cfg.trainer.schedule.name = "constant"  # or "step", "cosine"
    cfg.trainer.schedule.warmup_epochs = 0.0  # linearly up from a thousandth of the learning rate
    cfg.trainer.schedule.warmup_steps = placeholder(int)  # the same in steps, instead of epochs
    # "step": epochs between falls, out of `epochs`; where training is shorter or longer, so is what lies between them
    cfg.trainer.schedule.decay_epochs = cfg.trainer.get_ref("epochs").to_float() * 0.8
    cfg.trainer.schedule.decay_rate = 0.1  # "step": by this factor
    cfg.trainer.schedule.final_lr = 0.0  # "cosine": where it ends; at most `lr`

    cfg.trainer.precision = "float32"  # or "bfloat16", where the device has it; "float16" on a GPU
    cfg.trainer.compile = False  # True: a minute or more at first, faster steps afterwards
    cfg.trainer.channels_last = False  # layout of feature maps in memory; True is faster for some networks, see docs
    cfg.trainer.sync_batchnorm = True  # over several devices: statistics of the whole batch, not of each one's part

    cfg.trainer.evaluate_every = 0  # epochs between looks at the test images, for curves alone; 0 never looks
    cfg.trainer.select = "last"  # "best_on_test" reports the best such look instead, which chooses on the test set
    cfg.trainer.save_minutes = (
        10.0  # between states that a killed run goes on from; one is kept at the end of each phase
    )

    cfg.trainer.phases = ConfigDict()  # name of a phase -> keys of this section that differ there
