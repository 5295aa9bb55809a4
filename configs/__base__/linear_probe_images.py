"""Linear probe with replay for classes of labelled images: a baseline of CLAP4CLIP on the same encoder."""

from anoframe.config import ConfigDict, inherit, placeholder

cfg = inherit("class_stream.py")
cfg.trainer.epochs = 20
cfg.trainer.batch_size = 32
cfg.trainer.optimizer.name = "adam"
cfg.trainer.optimizer.lr = 0.0003  # of 0.0001 to 0.003, chosen on held-out training images of all classes at once
cfg.trainer.schedule.name = "cosine"
with cfg.unlocked():
    cfg.trainer.phases.balance = ConfigDict()  # on exemplars of all classes, after the first task
    cfg.trainer.phases.balance.epochs = 20

    cfg.model.classifier.name = "linear_probe"
    cfg.model.classifier.balance = True
    cfg.model.classifier.memory = ConfigDict()
    cfg.model.classifier.memory.total = placeholder(int)
    cfg.model.classifier.memory.per_class = 20
    cfg.model.classifier.memory.selector = "random"
    cfg.model.classifier.memory.direction = "default"
