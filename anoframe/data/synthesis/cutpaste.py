"""CutPaste, union of rectangles and scars, and the three views of the 3-way classifier (Li et al., CVPR 2021)."""

from __future__ import annotations

import numpy as np

from anoframe.data.synthesis.base import NO_CONTEXT, Context, Generator, Pixels, Synthetic
from anoframe.data.synthesis.cutpaste_patch import CutPastePatch
from anoframe.data.synthesis.cutpaste_scar import CutPasteScar


class CutPaste(Generator):
    """Make a rectangle or a scar, each with probability 1/2; `three_way` makes both.

    Args:
        jitter: amount of the colour jitter, 0 to 0.5.
        mask: `region` or `diff`, as in `CutPastePatch`.
        p_anomaly: see `Generator`.
    """

    name = "cutpaste"

    def __init__(self, jitter: float = 0.1, mask: str = "region", p_anomaly: float = 1.0) -> None:
        super().__init__(p_anomaly)
        self.patch = CutPastePatch(jitter=jitter, mask=mask)
        self.scar = CutPasteScar(jitter=jitter, mask=mask)

    def edit(self, image: Pixels, rng: np.random.Generator, context: Context) -> Synthetic:
        return (self.patch if rng.random() < 0.5 else self.scar).edit(image, rng, context)

    def three_way(
        self, image: Pixels, rng: np.random.Generator, context: Context = NO_CONTEXT
    ) -> tuple[Synthetic, Synthetic, Synthetic]:
        """Return the image unchanged, with a rectangle, and with a scar: classes 0, 1 and 2 of the classifier."""
        normal = self.with_probability(0.0).generate(image, rng, context)
        return normal, self.patch.generate(image, rng, context), self.scar.generate(image, rng, context)
