"""SEMA-UniAD on a stream of tasks; see docs/sema_uniad.md. UniAD's own settings are those of the first task."""

from anoframe.config import ConfigDict, inherit, placeholder

cfg = inherit("uniad.py")
cfg.protocol.name = "continual"
cfg.protocol.strategy = "native"  # "finetune", "frozen", "ewc" and "joint" train the same network in other ways

with cfg.unlocked():
    cfg.model.name = "sema_uniad"

    cfg.model.sema = ConfigDict()
    cfg.model.sema.adapter_bottleneck = 64
    cfg.model.sema.adapter_dropout = 0.0  # after the ReLU of an adapter, in training
    cfg.model.sema.adapter_scalar = 1.0  # factor of an adapter's output
    cfg.model.sema.position = "ffn"  # sub-layers with adapters: 8 sites; "attn": 12; "both": 20
    cfg.model.sema.mode = "parallel"  # inside the residual sum; "sequential": on the output of the sub-layer
    cfg.model.sema.start_layer = 0  # first layer with adapters; encoder layers are 0 to 3
    cfg.model.sema.end_layer = 7  # last layer with adapters; decoder layers are 4 to 7
    cfg.model.sema.expand_start = placeholder(int)  # first layer that may get more adapters; None: start_layer
    cfg.model.sema.expand_end = placeholder(int)  # last layer that may get more; None: end_layer

    cfg.model.sema.descriptor_dim = 64  # bottleneck of a descriptor
    cfg.model.sema.descriptor_relu = False  # True: a ReLU in the descriptor
    cfg.model.sema.descriptor_buffer_size = 500  # number of images for the statistics of a descriptor
    cfg.model.sema.joint_loss = False  # True: train descriptors together with adapters, not after them
    cfg.model.sema.descriptor_loss_weight = 0.1  # loss weight of the descriptors with joint_loss

    cfg.model.sema.expansion_threshold = 3.0  # z-score above which a batch is novel; None (config file only): never
    cfg.model.sema.one_sided = False  # True: descriptor losses below the mean are not novel
    cfg.model.sema.scan_order = "sequential"  # "joint": new slots of all novel sites are trained together

    # "rd": by the descriptors; "reconstruction": all slots of the task that reconstructs the image best
    cfg.model.sema.routing = "learned"
    cfg.model.sema.new_router_bias = placeholder(float)  # -4.0: a new slot starts with almost no weight; None: random
    cfg.model.sema.reuse_finetune = False  # True: a task without expansion trains the existing adapters

    cfg.trainer.phases.adapter = ConfigDict()  # a slot of a later task: adapter and router column
    cfg.trainer.phases.adapter.epochs = 100
    cfg.trainer.phases.adapter.least_steps = 5000
    cfg.trainer.phases.adapter.batch_size = 16
    cfg.trainer.phases.adapter.optimizer = ConfigDict({"lr": 1e-3})
    cfg.trainer.phases.adapter.schedule = ConfigDict({"name": "cosine"})

    cfg.trainer.phases.descriptor = ConfigDict()  # descriptors of new slots, also in the first task
    cfg.trainer.phases.descriptor.epochs = 20
    cfg.trainer.phases.descriptor.least_steps = 625  # 20 epochs of 500 images
    cfg.trainer.phases.descriptor.batch_size = 16
    cfg.trainer.phases.descriptor.clip = 0.0
    cfg.trainer.phases.descriptor.optimizer = ConfigDict({"lr": 1e-3})
    cfg.trainer.phases.descriptor.schedule = ConfigDict({"name": "cosine"})
