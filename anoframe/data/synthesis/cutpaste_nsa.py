"""CutPaste in the version of NSA ("CutPaste end-to-end" in its official code): a hard swap of patches of NSA sizes."""

from __future__ import annotations

from anoframe.data.synthesis.nsa import NSA


class CutPasteNSA(NSA):
    """Move patches of the image to another place of the same image, without resizing and without blending.

    Args:
        like: row of the class table of NSA, see `NSA`.
        p_anomaly: see `Generator`.
    """

    name = "cutpaste_nsa"

    def __init__(self, like: str | None = None, p_anomaly: float = 1.0) -> None:
        super().__init__(like, blend="swap", source="same", resize=False, p_anomaly=p_anomaly)
