"""Base of configs that compare encoders; see docs/backbones.md. tools/survey.py runs them."""

from anoframe.config import ConfigDict

cfg = ConfigDict()
cfg.config_name = ""  # set to the name of the config file
cfg.seeds = (0,)  # each seed trains or draws its own encoder, and its own detectors and probes
cfg.device = "auto"  # as in the configs of the runs

# Name -> how the encoder is obtained. Every survey needs one of the source `random` and one of `imagenet`.
#   source        random | imagenet | pretrain | exported
#   architecture  random, imagenet: a timm model
#   stem          random: imagenet | small; optional
#   weights       imagenet: as model.backbone.weights; optional
#   config        pretrain: a config of tools/pretrain.py
#   set           pretrain: keys of that config, as nested sections; None leaves a key as it is
#   path          exported: an encoder.safetensors or its run folder; `{seed}` in it stands for the seed
#   enable        False leaves the encoder out; optional
cfg.encoders = ConfigDict()

cfg.classification = ConfigDict()  # name -> `config` of tools/evaluate_encoder.py, `set`, and optionally `enable`

cfg.detection = ConfigDict()
cfg.detection.categories = ("all",)  # of the dataset
cfg.detection.set = ConfigDict()  # keys of every method's config
cfg.detection.methods = ConfigDict()  # name -> `config` of tools/main.py, and optionally `set` and `enable`
