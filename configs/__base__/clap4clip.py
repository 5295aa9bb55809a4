"""CLAP4CLIP with the settings of its authors (5 + 2 epochs, 20 samples); see docs/clap4clip.md."""

from anoframe.config import ConfigDict, inherit, placeholder

cfg = inherit("gradient.py")
cfg.data.interpolation = "bicubic"
cfg.threshold.held_back = 0.0  # a stream of tasks has no thresholds

cfg.trainer.epochs = 5  # of the phase "task": new images and exemplars of earlier tasks
cfg.trainer.batch_size = 32  # changes the result: the attention sees the images of a batch together
cfg.trainer.optimizer.name = "momentum"  # SGD without Nesterov; here without momentum as well
cfg.trainer.optimizer.lr = 0.0016  # 0.001 * batch_size / 20
cfg.trainer.schedule.name = "warmup_cosine"
with cfg.unlocked():
    cfg.trainer.optimizer.momentum = 0.0
    cfg.trainer.schedule.warmup_share = 0.3  # of the steps; from 0, and then a cosine over the others
    cfg.trainer.schedule.final_share = 0.001  # of the learning rate, at the end of the cosine

    cfg.trainer.phases.balance = ConfigDict()  # after the first task: exemplars of all classes, equally many of each
    cfg.trainer.phases.balance.epochs = 2
    cfg.trainer.phases.balance.optimizer = ConfigDict({"lr": 0.00016})
    cfg.trainer.phases.balance.schedule = ConfigDict({"warmup_share": 0.0})

    cfg.model = ConfigDict()
    cfg.model.name = "class_incremental"

    cfg.model.text = ConfigDict()
    cfg.model.text.source = placeholder(str)  # "prompts" or "prototypes"; None: prompts if there is a text tower
    cfg.model.text.templates = "industrial"  # of classes without a state; or cifar, imagenet, imagenet_short, a file
    cfg.model.text.prompts = placeholder(str)  # file with words of normal and defective states; None: WinCLIP's
    cfg.model.text.images = 16  # training images of a class that are its prototypes

    cfg.model.classifier = ConfigDict()
    cfg.model.classifier.name = "clap4clip"
    cfg.model.classifier.prompt_style = "hand_crafted"  # or "coop": learned context vectors
    cfg.model.classifier.scale = 100.0  # factor of cosines in logits, CLIP's
    cfg.model.classifier.balance = True  # False: without the phase "balance"

    cfg.model.classifier.context = ConfigDict()  # of the prompt style "coop"
    cfg.model.classifier.context.length = placeholder(int)  # None: 12, or 2 per task if expandable
    cfg.model.classifier.context.expandable = False  # True: each task adds vectors, which are averaged

    cfg.model.classifier.memory = ConfigDict()  # exemplars of earlier tasks, see docs/continual.md
    cfg.model.classifier.memory.total = placeholder(int)  # in all, shared by the classes; None: per_class
    cfg.model.classifier.memory.per_class = 20  # 0: no memory
    cfg.model.classifier.memory.selector = "random"
    cfg.model.classifier.memory.direction = "default"

    cfg.model.classifier.vga = ConfigDict()  # visual-guided attention
    cfg.model.classifier.vga.enabled = True
    cfg.model.classifier.vga.heads = placeholder(int)  # None: 1; with CoOp one per 64 channels
    cfg.model.classifier.vga.hidden = 2048
    cfg.model.classifier.vga.dropout = 0.1
    cfg.model.classifier.vga.task_tokens = False

    cfg.model.classifier.posterior = ConfigDict()
    cfg.model.classifier.posterior.variational = True  # False: adapters give a mean alone, an ablation
    cfg.model.classifier.posterior.samples = 20
    cfg.model.classifier.posterior.hierarchical = False  # True: a global adapter before those of the tasks
    cfg.model.classifier.posterior.global_samples = 10  # the number of samples is then samples * global_samples
    cfg.model.classifier.posterior.expandable = True  # one adapter per task; False: one for all
    cfg.model.classifier.posterior.prior = "static"  # N(0, I); "np": from a part of the batch; "frozen": from texts
    cfg.model.classifier.posterior.context = 0.67  # that part, of the prior "np"

    cfg.model.classifier.loss = ConfigDict()  # weights beside the cross-entropy; 0 turns one off
    cfg.model.classifier.loss.language = 15.0
    cfg.model.classifier.loss.kl = 0.001
    cfg.model.classifier.loss.distillation = 0.0  # 0.3 in the reference's option; needs hierarchical
    cfg.model.classifier.loss.orthogonality = 0.0  # 5.0 in the reference's option

    cfg.model.classifier.routing = ConfigDict()  # by task anchors; no part of the paper
    cfg.model.classifier.routing.mode = "none"  # or "alloc": samples, "prior": logits
    cfg.model.classifier.routing.temperature = 0.07
    cfg.model.classifier.routing.weight = 1.0  # of the log weights, for "prior"
    cfg.model.classifier.routing.unit = "image"  # or "batch"
