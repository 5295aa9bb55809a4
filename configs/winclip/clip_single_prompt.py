"""Not WinCLIP: one normal and one defective prompt, the embedding of the whole image, no anomaly map.

    python tools/main.py --config configs/winclip/clip_single_prompt.py --cls_names bottle

Cost: one forward pass of ViT-B/16+ per image. RAML's code calls this baseline WinCLIP and reports a mean image AUROC of
86.98 % on its own pooled split of MVTec AD; the command for that split is in docs/winclip.md.
"""

from anoframe.config import ConfigDict, inherit

cfg = inherit("winclip_zero_shot.py")
backbone = cfg.model.backbone
with cfg.unlocked():
    cfg.model = ConfigDict()
    cfg.model.name = "clip_single_prompt"
    cfg.model.backbone = backbone
    cfg.model.normal_prompt = "a photo of a flawless {}"
    cfg.model.defect_prompt = "a photo of a damaged {}"
    cfg.model.tau = 0.07  # temperature of the softmax; the ranking of scores does not depend on it
    cfg.model.raw_names = False  # True: keep "_" in names of categories, as RAML's code does
