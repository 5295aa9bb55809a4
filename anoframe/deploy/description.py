"""What an exported model says about itself: preprocessing, threshold, method, hashes and versions, as JSON.

The same JSON is in the file of the model, under the key `anoframe` of its metadata, and beside it as `model.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.evaluation.decision import Threshold

FORMAT = 1  # raise it when keys get other names
KEY = "anoframe"  # of the metadata of a model file
STEM = "model"  # file name without suffix
JSON_FILE = f"{STEM}.json"
INPUT, SCORE, MAP = "image", "score", "anomaly_map"  # names of the tensors


@dataclass(frozen=True)
class Description:
    """Description of an exported model.

    Attributes:
        preprocessing: of images; the model takes their pixels after resizing and cropping.
        threshold: of decisions; None if the detector has none.
        category: whose threshold this is, and whose texts a method with texts uses.
        outputs: names of the output tensors; a method that scores images only has no `anomaly_map`.
        details: all other keys: method, precision, hashes, versions, notes.
    """

    preprocessing: Preprocessing
    threshold: Threshold | None
    category: str
    outputs: tuple[str, ...]
    details: Mapping[str, Any]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the input."""
        return self.preprocessing.size

    def to_json(self) -> str:
        """Return the JSON text, the same for equal descriptions."""
        tree = {
            "format": FORMAT,
            **self.preprocessing.settings(),
            "threshold": self.threshold and self.threshold.to_json(),
            "category": self.category,
            "input": {"name": INPUT, "type": "uint8", "shape": ["batch", *self.size, 3], "colours": "RGB"},
            "outputs": list(self.outputs),
            **self.details,
        }
        return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False)


def parse_description(text: str, name: object) -> Description:
    """Read the JSON of a description; `name` says in errors where it is from.

    Raises:
        AnoframeError: it is damaged, or of another format.
    """
    try:
        tree = json.loads(text)
        if tree["format"] != FORMAT:
            raise AnoframeError(
                f"{name} has format {tree['format']!r}, and this version of anoframe reads {FORMAT}: export it again"
            )
        limits = tree["threshold"]
        return Description(
            Preprocessing(**_known(Preprocessing, tree)),
            None if limits is None else Threshold(**_known(Threshold, limits)),
            str(tree["category"]),
            tuple(tree["outputs"]),
            {key: value for key, value in tree.items() if key not in _OWN_KEYS},
        )
    except AnoframeError as error:
        raise AnoframeError(f"{name}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AnoframeError(f"{name} is damaged or no description of a model ({error!r}): export it again") from error


_OWN_KEYS = {"format", "threshold", "category", "input", "outputs", *(field.name for field in fields(Preprocessing))}


def _known(kind: Any, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the fields of a dataclass; a missing one gets its default."""
    return {field.name: tree[field.name] for field in fields(kind) if field.name in tree}
