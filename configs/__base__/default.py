"""Keys that every config has. Other configs inherit from this one and add the section `model`."""

from anoframe.config import ConfigDict, one_of, placeholder

cfg = ConfigDict()
cfg.config_name = ""  # set to the name of the config file; part of the path of the run folder
cfg.categories = ()  # --cls_names; ("all",) selects every category on disk
cfg.seed = 0  # --seed, 0 to 2**32 - 1; the same seed on the same machine gives the same bytes
cfg.device = "auto"  # --device auto | cpu | cuda | 0 | "0 1"; auto uses a GPU if there is one

cfg.protocol = ConfigDict()
cfg.protocol.name = "separate"  # --protocol separate: one model per category | unified: one for all | continual: tasks
cfg.protocol.tasks = ""  # continual: "a,b;c;d", or a named stream such as "10-1x5"; "": one task per category
cfg.protocol.order_seed = placeholder(int)  # continual: shuffles the categories over the tasks; None keeps the order
cfg.protocol.strategy = "finetune"  # continual: finetune | frozen | ewc | replay | joint | native (the method's own)
cfg.protocol.ewc_weight = 1000.0  # ewc: weight of the penalty, above 0; a larger one forgets less and learns less
cfg.protocol.memory = ConfigDict()  # replay: images of earlier tasks that later tasks see again
cfg.protocol.memory.total = placeholder(int)  # in all, shared equally by the categories seen; None: per_class
cfg.protocol.memory.per_class = 20  # of each category
cfg.protocol.memory.selector = "random"  # random | herding | first
cfg.protocol.memory.direction = "default"  # of selectors that need a classifier, see docs/continual.md

cfg.data = ConfigDict()
cfg.data.name = "mvtec"  # mvtec | visa | folder | demo
cfg.data.root = placeholder(str)  # folder of the dataset; None: data/<name>
cfg.data.follow_links = False  # True: also read files outside the root that links inside it point to
cfg.data.resize = one_of(256, int, tuple)  # pixels; both sides, or the shorter side with keep_aspect; or (h, w)
cfg.data.crop = one_of(224, int, tuple)  # pixels; centre square that is kept, or (h, w); at most `resize`
cfg.data.keep_aspect = one_of(False, bool, "pad", "rectangle")  # True: the crop cuts off the ends of other shapes
# "pad": fill up; "rectangle": the shape of the training images, with as many pixels as the crop; docs/shapes.md
cfg.data.tile = one_of(None, int, tuple)  # pixels; cut the image into tiles of this size, or (h, w); None: no tiles
cfg.data.tile_overlap = 0  # pixels that neighbouring tiles share at least
cfg.data.ignore = placeholder(str)  # file or folder of ignored regions, see docs/shapes.md; None: every pixel counts
cfg.data.interpolation = "bilinear"  # bilinear | bicubic, of the resizing of images
cfg.data.mask_rule = "half"  # half | covered | any: a pixel of a resized mask is defect if so much of its area was
cfg.data.mask_frame = (
    "upright"  # upright | stored: masks lie on the photograph as shown, or as stored before EXIF turns
)
cfg.data.split = "official"  # official | few_shot | raml | raml_grouped | raml_pooled, see docs/splits.md
cfg.data.shots = 0  # few_shot: normal training images per category, drawn by `seed`; 0 for every other split
cfg.data.train_share = 0.8  # share of normal images for training, in (0, 1), of data without a split (good/ and bad/)
cfg.data.split_seed = 0  # chooses these images, and those of the raml splits, by their file names
cfg.data.jpeg_draft = False  # True: decode large JPEGs at 1/2, 1/4 or 1/8 size; faster, slightly different pixels
cfg.data.batch_size = 16  # images per forward pass of the backbone; changes memory and speed, not results
cfg.data.workers = -1  # processes that decode images, up to 256; 0: none; -1: chosen for the machine

cfg.cache = ConfigDict()  # changes the duration of a run, not its result; --cache on | off | clear
cfg.cache.images = True  # keep decoded and resized images on disk
cfg.cache.features = True  # keep the features of a frozen backbone on disk, shared by methods, seeds and ablations
cfg.cache.folder = placeholder(str)  # None: $ANOFRAME_CACHE, or $XDG_CACHE_HOME/anoframe, or ~/.cache/anoframe
cfg.cache.max_gb = 20.0  # limit of each of the two caches in GB, above 0; the least recently used entries are removed

cfg.evaluation = ConfigDict()
cfg.evaluation.aupro_limits = (0.3,)  # AUPRO, and sPRO of loco, up to these FPRs in (0, 1]; `aupro` is always up to 0.3
cfg.evaluation.pixel_thresholds = ()  # raw map values; each adds pixel F1, accuracy and IoU at this threshold

cfg.threshold = ConfigDict()  # estimated on held-back normal training images by a second fit; never on test images
cfg.threshold.held_back = 0.2  # share of held-back images, in [0, 1); 0: no threshold and no decisions
cfg.threshold.fits = 1  # second fits, each holding back other images; 5 of 0.2 score every normal image once
cfg.threshold.false_positive_rate = 0.01  # share of normal images that may be called defects, in (0, 1)

cfg.report = ConfigDict()
cfg.report.pictures = 12  # images per category in the report: the worst, the borderline and the best
cfg.report.thumbnails = 1000  # small pictures per category in the report; all test images, if they are no more

cfg.wandb = ConfigDict()  # Weights & Biases, see docs/tracking.md
cfg.wandb.enable = False  # True: log to W&B; without account or network the run is kept on disk for a later upload
cfg.wandb.project = placeholder(str)  # None: $WANDB_PROJECT, or "anoframe"
cfg.wandb.entity = placeholder(str)  # user or team; None: $WANDB_ENTITY, or the default of the account
cfg.wandb.name = placeholder(str)  # of the W&B run; None: $WANDB_NAME, or config, protocol, categories and seed
cfg.wandb.group = placeholder(str)  # None: $WANDB_RUN_GROUP, or config and protocol, so that seeds stand together
cfg.wandb.job_type = placeholder(str)  # None: $WANDB_JOB_TYPE, or train, test, pretrain, probe, grid
cfg.wandb.notes = placeholder(str)  # None: $WANDB_NOTES, or what has to be known to compare the results
cfg.wandb.tags = ()  # for example ("wood", "ablation")
cfg.wandb.log_model = True  # upload checkpoints as artifacts
cfg.wandb.log_freq = 50  # optimiser steps between two logged values of losses, learning rate and times; 1 or more

cfg.tensorboard = ConfigDict()
cfg.tensorboard.enable = False  # True: write event files into the run folder; needs the extra `tensorboard`
