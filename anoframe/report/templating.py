"""HTML from the jinja2 templates in `report/templates/`, with autoescape."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Script:
    """A script of the pages, and the hash by which their content security policy allows it."""

    text: Markup
    sha256: str


@cache
def environment() -> Environment:
    """The template environment: values are escaped unless they are `Markup`, and a missing value is an error."""
    loader = FileSystemLoader(_FOLDER / "templates")
    env = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.globals.update(asset=asset, page_script=script("report.js", "explorer.js"))
    return env


def render(template: str, **values: Any) -> str:
    """Render a template of `report/templates/`."""
    return environment().get_template(template).render(**values)


def asset(name: str) -> Markup:
    """Return a file of `report/assets/` unescaped: CSS or JavaScript to embed in a page."""
    return Markup((_FOLDER / "assets" / name).read_text(encoding="utf-8"))


@cache
def script(*names: str) -> Script:
    """Join files of `report/assets/` to the one script of a page, which its policy allows by its hash."""
    text = Markup("").join(asset(name) for name in names)
    return Script(text, base64.b64encode(sha256(text.encode("utf-8")).digest()).decode())
