"""`report.html` of a run: one file without external resources."""

from __future__ import annotations

from anoframe.data.preprocessing import size_text
from anoframe.evaluation.disclosure import describe_protocol, list_sentences
from anoframe.report.category_section import category_view
from anoframe.report.class_section import class_view
from anoframe.report.compare import describe_split
from anoframe.report.provenance import provenance_view
from anoframe.report.results_section import category_table, result_tiles
from anoframe.report.run_record import RunRecord
from anoframe.report.stream_section import stream_view
from anoframe.report.templating import render
from anoframe.report.training_section import training_view


def report_page(run: RunRecord) -> str:
    """Render the whole page. All names are escaped, and the browser may load nothing else."""
    categories = [category_view(category, index) for index, category in enumerate(run.categories)]
    stream = stream_view(run.stream)
    return render(
        "report.html",
        run=run,
        facts=_facts(run),
        sentences=list_sentences(run.provenance),
        tiles=result_tiles(run),
        table=category_table(run),
        stream=stream,
        classes=class_view(run.class_record, run.stream),
        categories=categories,
        has_matrices=bool(stream) or any(view.method for view in categories),
        training=training_view(run.training),
        provenance=provenance_view(run),
    )


def _facts(run: RunRecord) -> list[str]:
    """Return the facts below the title of the page."""
    provenance, data = run.provenance, run.provenance.get("data", {})
    facts = [
        data.get("name"),
        f"{provenance['protocol']} protocol" if "protocol" in provenance else None,
        f"{size_text(data['crop'])} pixels" if "crop" in data else None,
        f"tiles of {size_text(data['tile'])}, overlap {data.get('tile_overlap', 0)}" if "tile" in data else None,
        "ignored regions" if "ignored_regions" in data else None,
        f"seed {provenance.get('seed', run.config.get('seed'))}",
        f"run {run.run['id']}" if "id" in run.run else None,
        *describe_split(data),
        *describe_protocol(provenance),
    ]
    return [str(fact) for fact in facts if fact]
