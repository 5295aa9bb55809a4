"""What every config has. Others start from here and add `model`."""

from anoframe.config import ConfigDict, placeholder

cfg = ConfigDict()
cfg.config_name = ""  # filled in with the name of the config file; part of the run folder's path
cfg.categories = ()  # --cls_names; ("all",) is every category on disk
cfg.seed = 0  # --seed; the same seed on the same machine gives the same bytes
cfg.device = "auto"  # --device cpu | cuda | 0 | "0 1"; auto takes a GPU where there is one

cfg.protocol = ConfigDict()
cfg.protocol.name = "separate"  # --protocol: a model a category, or "unified", one for all

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

cfg.report = ConfigDict()
cfg.report.pictures = 12  # images shown a category: the worst, the borderline and the best

cfg.wandb = ConfigDict()
cfg.wandb.enable = False  # Weights & Biases; not available in this version
