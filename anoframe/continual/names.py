"""Names of the strategies on a stream of tasks. This module loads no torch."""

from __future__ import annotations

JOINT = "joint"  # the strategy that trains on all tasks at once
STRATEGIES = ("finetune", "frozen", "ewc", "replay", "native", JOINT)
ALIASES = {"expand": "native"}  # former names, still accepted in configs


def strategy_name(value: str) -> str:
    """Current name of a strategy: a former name is replaced, any other value is returned as it is.

    >>> strategy_name("expand"), strategy_name("ewc")
    ('native', 'ewc')
    """
    return ALIASES.get(value, value)
