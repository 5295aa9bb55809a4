"""Not WinCLIP: windows are averages of the patch tokens of the whole image. Zero-shot, a thirteenth of the work.

    python tools/main.py --config configs/winclip/winclip_fast.py --cls_names bottle

Cost: one forward pass of ViT-B/16+ per image. Expected: image AUROC of winclip_zero_shot, because the image score is
the same; nothing was published about its maps.
"""

from anoframe.config import inherit

cfg = inherit("winclip_zero_shot.py")
cfg.model.name = "winclip_fast"
