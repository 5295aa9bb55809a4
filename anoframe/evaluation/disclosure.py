"""Words and table cells for what stands beside results: protocol tag, held-out counts, notes, transfer.

The keys are those of the provenance of `metrics.json`; a key is absent where there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from anoframe.utils.type_check import matches_type

DISCLOSED = ("protocol_tag", "held_out", "notes", "transfer_from", "split_hash")
HELD_OUT = "held-out"  # head of the column of `held_out_text`
TAG_SENTENCE = "the method has learned from labelled defects, so do not compare it with methods that have not"

_TYPES = {
    "protocol_tag": str,
    "held_out": dict[str, dict[str, int]],
    "notes": list[str],
    "transfer_from": list[str],
    "split_hash": str,
}


def check_disclosure(provenance: Mapping[str, Any]) -> None:
    """Check the types of the keys of this module in a provenance from a file; raises TypeError."""
    for key, kind in _TYPES.items():
        if key in provenance and not matches_type(provenance[key], kind):
            raise TypeError(f"{key} holds {provenance[key]!r}")
    for counts in provenance.get("held_out", {}).values():
        if counts.keys() != {"good", "defect"}:
            raise TypeError(f"held_out holds {counts!r}")


def sum_held_out(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add the numbers of held-out good and defect images of several categories."""
    rows = list(counts)
    return {key: sum(row[key] for row in rows) for key in ("good", "defect")}


def held_out_text(counts: Mapping[str, int] | None) -> str:
    """Format held-out images as good + defects; empty without counts.

    >>> held_out_text({"good": 4, "defect": 13})
    '4 + 13'
    """
    return f"{counts['good']} + {counts['defect']}" if counts else ""


def describe_protocol(provenance: Mapping[str, Any]) -> list[str]:
    """Return the protocol tag and the total of held-out images as parts of a heading; empty without either."""
    tag, held_out = provenance.get("protocol_tag"), provenance.get("held_out")
    parts = [str(tag)] if tag else []
    if held_out:
        total = sum_held_out(held_out.values())
        parts.append(f"held out {total['good']} good + {total['defect']} defect images")
    return parts


def list_remarks(provenance: Mapping[str, Any]) -> list[str]:
    """List the sentences on one run among several of a table: where it was transferred from, and its notes."""
    remarks = []
    if trained := provenance.get("transfer_from"):
        remarks.append(f"transfer: trained on {', '.join(trained)}, without further training on the tested categories")
    return [*remarks, *provenance.get("notes", [])]


def list_sentences(provenance: Mapping[str, Any]) -> list[str]:
    """List the sentences that belong beside every table of these results."""
    tagged = [f"protocol {', '.join(describe_protocol(provenance))}: {TAG_SENTENCE}"]
    return [*(tagged if provenance.get("protocol_tag") else []), *list_remarks(provenance)]


def csv_columns(provenance: Mapping[str, Any]) -> list[str]:
    """Names of the columns that `csv_cells` fills; empty if there is nothing to say."""
    columns = []
    if provenance.get("protocol_tag") or provenance.get("held_out"):
        columns = ["protocol_tag", "held_out_good", "held_out_defect"]
    return columns + (["notes"] if provenance.get("notes") else [])


def csv_cells(provenance: Mapping[str, Any], category: str | None, columns: Iterable[str]) -> list[str]:
    """Cells of a row of a CSV file.

    Args:
        provenance: of the results.
        category: None for a row of means, which has the sums of the counts.
        columns: from `csv_columns`.
    """
    held_out = provenance.get("held_out") or {}
    counts = sum_held_out(held_out.values()) if category is None and held_out else held_out.get(category)
    values = {
        "protocol_tag": provenance.get("protocol_tag") or "",
        "held_out_good": str(counts["good"]) if counts else "",
        "held_out_defect": str(counts["defect"]) if counts else "",
        "notes": " ".join(f"{note}." for note in provenance.get("notes", [])),
    }
    return [values[name] for name in columns]
