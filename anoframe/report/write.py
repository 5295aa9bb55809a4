"""Pictures and page of a run, written into its folder."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from anoframe.config import ConfigDict, flatten
from anoframe.data.reader import Reader
from anoframe.evaluation.collect import CategoryPredictions
from anoframe.evaluation.results import Results
from anoframe.files import read_json, write_atomic, write_json
from anoframe.report.page import Shown, report_page
from anoframe.report.pictures import choose, scale_of, strip

_INDEX = "pictures.json"


def write_category_pictures(
    folder: Path, category: str, found: CategoryPredictions, reader: Reader, count: int
) -> None:
    """`pictures/<category>/*.png`, and `pictures.json` beside them, which says what each shows."""
    scale = scale_of(found)
    home = folder / "pictures" / category
    index = []
    for place, (kind, i) in enumerate(choose(found.labels, found.scores, count)):
        sample = found.samples[i]
        image = reader.image(sample.image).pixels.permute(1, 2, 0).numpy()
        picture = strip(image, found.masks[i], found.maps[i], scale)
        file = f"{place:03d}_{kind}_{sample.defect}_{sample.image.stem}.png"
        content = io.BytesIO()
        picture.save(content, "PNG")
        write_atomic(home / file, content.getvalue())
        facts = {"kind": kind, "defect": sample.defect, "name": sample.image.name, "score": float(found.scores[i])}
        index.append({"file": file, **facts})
    write_json(home / _INDEX, index)


def write_report(folder: Path, cfg: ConfigDict, results: Results, stages: Mapping[str, Mapping[str, Any]]) -> None:
    """`report.html` from what the run folder holds."""
    shown = [one for category in results.categories for one in _shown(folder, category)]
    title = f"{cfg.config_name}: {', '.join(results.categories)}"
    write_atomic(folder / "report.html", report_page(title, results, shown, _facts(cfg, results, stages)))


def _shown(folder: Path, category: str) -> list[Shown]:
    home = folder / "pictures" / category
    return [
        Shown(category, one["kind"], one["defect"], one["name"], one["score"], _open(home / one["file"]))
        for one in read_json(home / _INDEX)
    ]


def _open(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _facts(cfg: ConfigDict, results: Results, stages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    provenance = results.provenance
    backbone = provenance["backbone"]
    facts: dict[str, Any] = {
        "backbone": f"{backbone['name']}, {', '.join(backbone['levels'])}",
        "weights": f"{backbone['weights']}, sha256 {backbone['sha256'][:16]}",
    }
    for category, counts in provenance["counts"].items():
        facts[f"images of {category}"] = ", ".join(f"{name} {count}" for name, count in counts.items())
    for name, stage in stages.items():
        facts[f"stage {name}"] = f"{stage['seconds']:.1f} s, peak memory {stage['peak_bytes'] / 1e9:.2f} GB"
    facts |= {f"version of {name}": version for name, version in provenance["versions"].items()}
    return facts | {f"config {key}": value for key, value in flatten(cfg)}
