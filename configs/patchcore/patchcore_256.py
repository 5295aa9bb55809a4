"""PatchCore on the whole image at 256 x 256, without a crop: the setting of ADer and of PatchCore-noising.

    python tools/main.py --config configs/patchcore/patchcore_256.py --cls_names bottle

Cost: 1,024 patches or 4.2 MB per training image (bottle: 877 MB), and a bank of 21,401 (bottle).
Expected: image AUROC of about 98.5 to 99 on MVTec AD; no number was published for exactly this setting.
"""

from anoframe.config import inherit

cfg = inherit("patchcore_224.py")
cfg.data.resize = 256
cfg.data.crop = 256
