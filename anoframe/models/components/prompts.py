"""Text prompts about normal and defective objects, read from a file that users edit, and their class prototypes.

A prompt is `template(state(name))`: "a bright photo of the" + "flawless bottle" (WinCLIP, Jeong et al., CVPR 2023,
section 4.1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml
from torch import Tensor
from torch.nn import functional as F

from anoframe.errors import AnoframeError, suggest
from anoframe.utils.paths import expand_path

DEFAULT_PROMPTS = Path(__file__).with_name("prompts.yaml")
CONVENTIONS = ("raw", "normalised")
_LISTS = ("templates", "normal", "defect")
_NAMES = "names"


@dataclass(frozen=True)
class PromptSet:
    """Templates, states and names of a prompts file.

    Attributes:
        templates: texts with one `{}` each, for a state.
        normal, defect: states, texts with one `{}` each, for a name.
        names: category -> its name in prompts; other categories have their own name with "_" replaced by a space.
        full_stop: end each prompt with a full stop.
        raw_names: keep "_" in names.
        source: the file, for messages.
    """

    templates: tuple[str, ...]
    normal: tuple[str, ...]
    defect: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    full_stop: bool = True
    raw_names: bool = False
    source: str = ""

    @property
    def sha256(self) -> str:
        """Hash of the content. Comments, layout and place of the file do not change it."""
        content = {key: value for key, value in asdict(self).items() if key != "source"}
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def digest(self) -> Tensor:
        """Return the hash of the content as 32 bytes, uint8, for a checkpoint."""
        return torch.tensor(list(bytes.fromhex(self.sha256)), dtype=torch.uint8)

    def check_digest(self, stored: Tensor | None) -> None:
        """Raise an AnoframeError if the prompts are not those of a checkpoint with this digest."""
        if stored is not None and not torch.equal(stored.cpu(), self.digest()):
            raise AnoframeError(
                f"the prompts of {self.source} are not those of this checkpoint (sha256 {self.sha256[:12]} instead of "
                f"{bytes(stored.tolist()).hex()[:12]}): restore that file, or run again"
            )

    def name_of(self, category: str) -> str:
        """Return the name of a category in prompts."""
        return self.names.get(category, category if self.raw_names else category.replace("_", " "))

    def prompts(self, category: str) -> tuple[list[str], list[str]]:
        """Return the normal and the defect prompts of a category, each state with all templates in turn."""
        name = self.name_of(category)
        return self._fill(self.normal, name), self._fill(self.defect, name)

    def _fill(self, states: Sequence[str], name: str) -> list[str]:
        named = [state.replace("{}", name) for state in states]
        end = "." if self.full_stop else ""
        return [template.replace("{}", state) + end for state in named for template in self.templates]

    def remarks(self) -> list[str]:
        """Return one sentence for each deviation from the shipped prompts that a result must state."""
        remarks = []
        shipped = read_prompts()
        if any(getattr(self, key) != getattr(shipped, key) for key in _LISTS):
            remarks.append(
                f"prompts are those of {self.source} (sha256 {self.sha256[:12]}), not the published ones: "
                f"{len(self.templates)} templates, {len(self.normal)} normal and {len(self.defect)} defect states"
            )
        if self.names:
            renamed = ", ".join(f"{category!r} is {name!r}" for category, name in sorted(self.names.items()))
            remarks.append(f"categories are renamed in prompts: {renamed}")
        for key in _LISTS:
            entries = getattr(self, key)
            for entry in sorted({text for text in entries if entries.count(text) > 1}):
                remarks.append(f"the prompts list {entry!r} {entries.count(entry)} times under {key}, and it counts so")
        return remarks


class TextEncoder(Protocol):
    """The part of a CLIP model that this module uses."""

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Return `[n, D]` unit rows."""

    def encode_text_raw(self, prompts: Sequence[str]) -> Tensor:
        """Return `[n, D]` rows that are not normalised."""


class TextPrototypes:
    """Prototypes of the normal and the defective state of each category; each category is encoded once.

    Args:
        encoder: text tower.
        prompts: prompts of a category.
        convention: `"raw"` averages the embeddings as they are and normalises the average, as public implementations
            of WinCLIP do; `"normalised"` normalises each embedding first, so that all prompts count equally.
    """

    def __init__(self, encoder: TextEncoder, prompts: PromptSet, convention: str = "raw"):
        if convention not in CONVENTIONS:
            raise AnoframeError(f"model.prototypes is one of {', '.join(CONVENTIONS)}, got {convention!r}")
        self._encoder, self._prompts, self._convention = encoder, prompts, convention
        self._by_name: dict[str, Tensor] = {}

    def of(self, categories: Sequence[str]) -> Tensor:
        """Return `[B, 2, D]`, unit rows: normal, defect."""
        return torch.stack([self._prototype(category) for category in categories])

    def _prototype(self, category: str) -> Tensor:
        name = self._prompts.name_of(category)
        if name not in self._by_name:
            self._by_name[name] = torch.stack([self._average(texts) for texts in self._prompts.prompts(category)])
        return self._by_name[name]

    @torch.no_grad()
    def _average(self, prompts: Sequence[str]) -> Tensor:
        raw = self._convention == "raw"
        embeddings = self._encoder.encode_text_raw(prompts) if raw else self._encoder.encode_text(prompts)
        return F.normalize(embeddings.float().mean(0), dim=0)


def read_prompts(path: str | Path | None = None, full_stop: bool = True) -> PromptSet:
    """Read a prompts file; the shipped one by default.

    Args:
        path: YAML with the lists `templates`, `normal` and `defect`, and optionally the table `names`.
        full_stop: end each prompt with a full stop.

    Raises:
        AnoframeError: the file cannot be read, or a key or value is wrong. The message names file and key.
    """
    file = DEFAULT_PROMPTS if path is None else expand_path(path, "model.prompts")
    content = _read_yaml(file)
    for key in content:
        if key not in (*_LISTS, _NAMES):
            raise _error(file, f"unknown key {key!r}: {suggest(str(key), (*_LISTS, _NAMES))}")
    if missing := [key for key in _LISTS if key not in content]:
        raise _error(file, f"the key {missing[0]} is missing: copy it from {DEFAULT_PROMPTS}")
    templates, normal, defect = (_texts(file, key, content[key]) for key in _LISTS)
    return PromptSet(templates, normal, defect, _names(file, content.get(_NAMES)), full_stop, source=str(file))


def _read_yaml(file: Path) -> dict[Any, Any]:
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise _error(file, f"cannot be read ({error.strerror}): correct the path, or copy {DEFAULT_PROMPTS}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise _error(file, f"is not YAML ({reason}): correct it, or copy {DEFAULT_PROMPTS}") from error
    if not isinstance(content, dict):
        raise _error(file, f"must have the keys {', '.join(_LISTS)}, got {content!r:.60}: copy {DEFAULT_PROMPTS}")
    return content


class _UniqueKeys(yaml.SafeLoader):
    """Rejects a key that is given twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if isinstance(key, str) and key in mapping:
                problem = f"the key {key!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            mapping[key] = self.construct_object(value_node, deep=True)  # type: ignore[no-untyped-call]
        return mapping


def _texts(file: Path, key: str, value: Any) -> tuple[str, ...]:
    """Check a list of texts with one `{}` each."""
    if not isinstance(value, list) or not value:
        raise _error(file, f"{key} must be a list of texts with at least one entry, got {value!r:.60}")
    for number, text in enumerate(value, 1):
        if not isinstance(text, str):
            raise _error(file, f"entry {number} of {key} must be text in quotes, got {text!r}")
        if text.count("{}") != 1 or text.count("{") != 1 or text.count("}") != 1:
            raise _error(file, f"entry {number} of {key} must contain {{}} once and no other brace, got {text!r}")
        if text != " ".join(text.split()):
            raise _error(file, f"entry {number} of {key} has extra spaces or line breaks: {text!r}")
    return tuple(value)


def _names(file: Path, value: Any) -> dict[str, str]:
    """Check the table of category names."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _error(file, f"{_NAMES} must be a table of category: name, got {value!r:.60}")
    for category, name in value.items():
        if not isinstance(category, str) or not isinstance(name, str) or not name.strip():
            raise _error(file, f"{_NAMES} must map text to text, both in quotes, got {category!r}: {name!r}")
        if "{" in name or "}" in name:
            raise _error(file, f"{_NAMES}: the name of {category!r} must have no braces, got {name!r}")
    return dict(value)


def _error(file: Path, text: str) -> AnoframeError:
    return AnoframeError(f"model.prompts {file}: {text}")
