"""FPI with Poisson editing, as in the comparison of the NSA paper."""

from __future__ import annotations

from anoframe.data.synthesis.fpi import FPI


class FPIPoisson(FPI):
    """FPI whose other image is blended by Poisson editing with mixed gradients before it is interpolated.

    The equation is linear, so this equals an interpolation of the gradients with the same factor.
    """

    name = "fpi_poisson"
    blend = "mixed"
