"""What every config has. Others start from here and add `model`."""

from anoframe.config import ConfigDict, placeholder

cfg = ConfigDict()
cfg.config_name = ""  # filled in with the name of the config file; part of the run folder's path
cfg.categories = ()  # --cls_names; ("all",) is every category on disk
cfg.seed = 0  # --seed; the same seed on the same machine gives the same bytes
cfg.device = "auto"  # --device cpu | cuda | 0 | "0 1"; auto takes a GPU where there is one

cfg.protocol = ConfigDict()
cfg.protocol.name = "separate"  # --protocol: a model a category; "unified", one for all; "continual", task after task
cfg.protocol.tasks = ""  # "a,b;c;d", or "10-1x5" and others of MVTec AD and VisA; "": each category is a task
cfg.protocol.order_seed = placeholder(int)  # shuffles the categories over the tasks; None leaves them as they are
cfg.protocol.strategy = "finetune"  # or "frozen", "ewc", "joint", or "expand", the detector's own way
cfg.protocol.ewc_weight = 1000.0  # of the penalty of elastic weight consolidation

cfg.data = ConfigDict()
cfg.data.name = "mvtec"  # mvtec | visa | folder | demo
cfg.data.root = placeholder(str)  # None: data/<name>
cfg.data.follow_links = False  # True reads files outside the root, which links in it lead to
cfg.data.resize = 256  # pixels of both sides, or of the shorter one with keep_aspect
cfg.data.crop = 224  # side of the centre square that is kept
cfg.data.keep_aspect = False  # True crops the long side: square images are the same, of others it loses defects
cfg.data.jpeg_draft = False  # True decodes large JPEGs at a half, quarter or eighth: faster, a little other pixels
cfg.data.batch_size = 16  # images the encoder sees at once; changes memory and speed, not results
cfg.data.workers = -1  # processes that decode images; -1 chooses for the machine

cfg.cache = ConfigDict()  # changes how long a run takes, and no result; --cache on | off | clear
cfg.cache.images = True  # keep decoded and resized images
cfg.cache.features = True  # keep what the frozen encoder makes of each image, for every method, seed and ablation
cfg.cache.folder = placeholder(str)  # None: $ANOFRAME_CACHE, or $XDG_CACHE_HOME/anoframe, or ~/.cache/anoframe
cfg.cache.max_gb = 20.0  # of each of the two; what was not used for longest goes first

cfg.evaluation = ConfigDict()
cfg.evaluation.aupro_limits = (0.3,)  # false-positive rates up to which AUPRO integrates; `aupro` is always 0.3
cfg.evaluation.pixel_thresholds = ()  # raw map values at which pixel F1, accuracy and IoU are given

cfg.threshold = ConfigDict()  # from normal training images that a second fit does not learn from, never from the test
cfg.threshold.held_back = 0.2  # share of them; 0 for no threshold, and no decisions
cfg.threshold.false_positive_rate = 0.01  # share of normal images that may be taken for defects

cfg.report = ConfigDict()
cfg.report.pictures = 12  # images shown a category: the worst, the borderline and the best

cfg.wandb = ConfigDict()  # Weights & Biases
cfg.wandb.enable = False  # True works without an account or network too: files to send later, see docs/tracking.md
cfg.wandb.project = placeholder(str)  # None: $WANDB_PROJECT, or "anoframe"
cfg.wandb.entity = placeholder(str)  # user or team; None: $WANDB_ENTITY, or what the account has as default
cfg.wandb.name = placeholder(str)  # of the W&B run; None: $WANDB_NAME, or config, protocol, categories and seed
cfg.wandb.tags = ()  # ("wood", "ablation")
cfg.wandb.log_model = True  # checkpoints as artifacts
cfg.wandb.log_freq = 50  # every how many steps losses, learning rate and times are logged

cfg.tensorboard = ConfigDict()
cfg.tensorboard.enable = False  # True: event files in the run folder; needs the extra `tensorboard`
