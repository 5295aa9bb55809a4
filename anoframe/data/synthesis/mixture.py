"""A mixture of generators, of which one is drawn for each image.

The default is for methods that learn from synthetic anomalies: half NSA, half DRAEM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from anoframe.data.synthesis.base import NO_CONTEXT, Context, Generator, Pixels, Synthetic
from anoframe.errors import AnoframeError
from anoframe.registry import SYNTHESIS

DEFAULT_MEMBERS: tuple[dict[str, Any], ...] = ({"name": "nsa", "weight": 0.5}, {"name": "draem", "weight": 0.5})


class Mixture(Generator):
    """Draw one of several generators, with probabilities proportional to their weights.

    The member is drawn before the decision to edit: what it does to normal images (DRAEM rotates some) happens to
    edited and to unedited images alike, and is no sign of an anomaly.

    Args:
        members: sections of `name`, `weight` (1 by default) and arguments of the generator.
        p_anomaly: replaces that of the members.
    """

    name = "mixture"

    def __init__(self, members: Sequence[Mapping[str, Any]] = DEFAULT_MEMBERS, p_anomaly: float = 0.5) -> None:
        super().__init__(p_anomaly)
        if not members:
            raise AnoframeError(f"{self.name}: members must name at least one generator, got an empty list")
        sections = [dict(section) for section in members]
        weights = [section.pop("weight", 1.0) for section in sections]
        if any(isinstance(w, bool) or not isinstance(w, int | float) or not w > 0 for w in weights):
            raise AnoframeError(f"{self.name}: each weight must be a number above 0, got {weights}")
        for section in sections:
            if "p_anomaly" in section:
                raise AnoframeError(f"{self.name}: set p_anomaly of the mixture, not of {section.get('name')!r}")
        self.members = [build_generator(section) for section in sections]
        self.weights = np.asarray(weights, float) / sum(weights)

    def generate(self, image: Pixels, rng: np.random.Generator, context: Context = NO_CONTEXT) -> Synthetic:
        member = self.members[int(rng.choice(len(self.members), p=self.weights))]
        member = member.as_negative() if self._must_change else member.with_probability(self.p_anomaly)
        return member.generate(image, rng, context)

    def notes(self) -> Sequence[str]:
        return [note for member in self.members for note in member.notes()]

    def edit(self, image: Pixels, rng: np.random.Generator, context: Context) -> Synthetic:
        return self.generate(image, rng, context)


def build_generator(section: Mapping[str, Any]) -> Generator:
    """Build a generator from a config section: its `name` and arguments.

    Raises:
        AnoframeError: the name is missing or unknown, or an argument is unknown, of another type or out of range.
    """
    arguments = dict(section)
    if "name" not in arguments:
        raise AnoframeError(f"a generator needs a name, got {arguments}; choose from {', '.join(SYNTHESIS.names())}")
    generator: Generator = SYNTHESIS.build(arguments.pop("name"), **arguments)
    return generator
