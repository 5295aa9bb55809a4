"""SimCLR on a ResNet-18; the settings that all contrastive configs share."""

from anoframe.config import inherit

cfg = inherit("pretraining.py")
cfg.trainer.batch_size = 512
with cfg.unlocked():
    cfg.learner.name = "simclr"
    cfg.learner.temperature = 0.1  # losses at different temperatures, batch sizes or image sizes cannot be compared
    cfg.learner.hidden = 0  # width of the projection head; 0: that of the features
    cfg.learner.dim = 128  # length of an embedding
    cfg.learner.head_bn = True  # BatchNorm in the head
    cfg.learner.micro_batches = 1  # parts a batch is computed in, twice each, with all negatives: less memory
