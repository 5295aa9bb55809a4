"""WinCLIP without references; see anoframe/models/winclip/model.py and docs/winclip.md."""

from anoframe.config import ConfigDict, inherit, placeholder

cfg = inherit("default.py")
cfg.data.resize = 240  # all of the image: industrial images must not lose their borders
cfg.data.crop = 240
cfg.data.keep_aspect = False
cfg.data.interpolation = "bicubic"  # as CLIP was trained
cfg.threshold.held_back = 0.0  # zero-shot uses no image, and a few references leave none to hold back

with cfg.unlocked():
    cfg.model = ConfigDict()
    cfg.model.name = "winclip"

    cfg.model.backbone = ConfigDict()
    cfg.model.backbone.name = "open_clip:ViT-B-16-plus-240"
    cfg.model.backbone.weights = "laion400m_e31"  # or "laion400m_e32", or the path of a weights file
    cfg.model.backbone.precision = "float32"
    cfg.model.backbone.compile = False

    cfg.model.prompts = placeholder(str)  # path of a prompts file; None: anoframe/models/components/prompts.yaml
    cfg.model.full_stop = True  # end each prompt with a full stop
    cfg.model.prototypes = "raw"  # average of the embeddings of prompts as they are; or "normalised", each first
    cfg.model.tau = 0.07  # temperature of the softmax; changes maps and few-shot scores, not zero-shot rankings
    cfg.model.scales = (2, 3)  # sides of the windows, in patches of 16 pixels
    cfg.model.sigma = 0.0  # of a Gaussian on the map, in pixels; 0: none
    cfg.model.use_references = False  # True: the training images are the references, see data.split and data.shots
