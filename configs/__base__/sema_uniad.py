"""SEMA-UniAD on a stream of tasks; see docs/sema_uniad.md. UniAD's own settings are those of the first task."""

from anoframe.config import ConfigDict, inherit, placeholder

cfg = inherit("uniad.py")
cfg.protocol.name = "continual"
cfg.protocol.strategy = "expand"  # "finetune", "frozen", "ewc" and "joint" train the same network in other ways

with cfg.unlocked():
    cfg.model.name = "sema_uniad"

    cfg.model.adapter_bottleneck = 64
    cfg.model.adapter_dropout = 0.0  # of an adapter that is trained, after its ReLU
    cfg.model.adapter_scalar = 1.0  # an adapter's output times this
    cfg.model.sema_position = "ffn"  # sub-layers that have adapters: 8 sites; "attn": 12; "both": 20
    cfg.model.sema_mode = "parallel"  # inside the residual sum; "sequential": on what the sub-layer gives
    cfg.model.sema_start_layer = 0  # that has adapters; the encoder's layers are 0 to 3
    cfg.model.sema_end_layer = 7  # the last that has; the decoder's layers are 4 to 7
    cfg.model.expand_start = placeholder(int)  # that may get more of them; None: sema_start_layer
    cfg.model.expand_end = placeholder(int)  # None: sema_end_layer

    cfg.model.rd_dim = 64  # bottleneck of a descriptor
    cfg.model.rd_relu = False  # True: a ReLU in it
    cfg.model.rd_buffer_size = 500  # images that its statistics are of
    cfg.model.joint_loss = False  # True: descriptors learn together with adapters, instead of after them
    cfg.model.rd_loss_weight = 0.1  # of their loss then

    cfg.model.expansion_threshold = 3.0  # z above which a batch is strange; None (in a config file) never expands
    cfg.model.one_sided = False  # True: a descriptor's loss below its mean is not strange
    cfg.model.scan_order = "sequential"  # "joint": slots of all sites at which a batch was strange train together

    # "rd": by the descriptors; "reconstruction": the slots of one task, of that with which an image is rebuilt best
    cfg.model.routing = "learned"
    cfg.model.new_router_bias = placeholder(float)  # -4.0: a new slot has hardly a say at first; None: drawn
    cfg.model.reuse_finetune = False  # True: a task that brings no slot trains those that there are

    cfg.trainer.phases.adapter = ConfigDict()  # a slot of a later task: adapter and column of the router
    cfg.trainer.phases.adapter.epochs = 100
    cfg.trainer.phases.adapter.least_steps = 5000
    cfg.trainer.phases.adapter.batch_size = 16
    cfg.trainer.phases.adapter.optimizer = ConfigDict({"lr": 1e-3})
    cfg.trainer.phases.adapter.schedule = ConfigDict({"name": "cosine"})

    cfg.trainer.phases.descriptor = ConfigDict()  # of new slots, those of the first task among them
    cfg.trainer.phases.descriptor.epochs = 20
    cfg.trainer.phases.descriptor.least_steps = 625  # 20 epochs of 500 images
    cfg.trainer.phases.descriptor.batch_size = 16
    cfg.trainer.phases.descriptor.clip = 0.0
    cfg.trainer.phases.descriptor.optimizer = ConfigDict({"lr": 1e-3})
    cfg.trainer.phases.descriptor.schedule = ConfigDict({"name": "cosine"})
