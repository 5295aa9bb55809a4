"""What RAML reports about its learned state."""

from __future__ import annotations

from torch import nn

from anoframe.models.raml.loss import MACCL
from anoframe.models.summary import MethodSummary, Table


def summarise(network: nn.Module, maccl: MACCL | None) -> MethodSummary:
    """Report margin, spread, centre and the difficulty of each category; nothing without MACCL.

    Args:
        network: with a text fusion or without.
        maccl: the loss with its state.
    """
    scale = getattr(getattr(network, "fusion", None), "scale", None)
    fusion = {} if scale is None else {"fusion/scale": float(scale.detach())}
    if maccl is None:
        return MethodSummary(scalars=fusion)
    sigma, margin = float(maccl.sigma), float(maccl.adaptive_margin())
    norm = float(maccl.centre.norm())
    return MethodSummary(
        scalars={"maccl/sigma": sigma, "maccl/margin": margin, "maccl/centre_norm": norm, **fusion},
        tables=_difficulty_tables(maccl),
        message=f"raml: sigma {sigma:.3f}, margin {margin:.3f}, norm of the centre {norm:.2f}",
    )


def _difficulty_tables(maccl: MACCL) -> list[Table]:
    state = maccl.difficulty.state()
    if not state:
        return []
    names = sorted(state)
    weights = maccl.difficulty.weights(names)
    rows = [(name, state[name], weight) for name, weight in zip(names, weights, strict=True)]
    note = "Moving average of the loss of each category, and its weight in the loss."
    return [Table("difficulty", "Difficulty of the categories", ("category", "loss", "weight"), rows, note)]
