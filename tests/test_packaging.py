"""Packaging: contents of the wheel and the sdist, the pinned requirements, and the make targets that CI uses."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PIN_LINES = [
    line
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
NOT_PINNED = ("ray",)  # an extra for clusters, which have their own version
DECLARED = [Requirement(d) for d in PROJECT["dependencies"]] + [
    Requirement(d) for name, extra in PROJECT["optional-dependencies"].items() for d in extra if name not in NOT_PINNED
]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PLATFORMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64"))


def sources(*folders: str, suffix: str = ".py") -> set[str]:
    """Files of the checkout under `folders`, as POSIX paths relative to its root."""
    paths = (p for folder in folders for p in (ROOT / folder).rglob(f"*{suffix}"))
    return {p.relative_to(ROOT).as_posix() for p in paths if not p.name.startswith(".")}


# --- wheel and sdist -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    archive = next(iter(SdistBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / f"{PROJECT['name']}-{PROJECT['version']}"


def wheel_names(root: Path, folder: Path) -> set[str]:
    archive = next(iter(WheelBuilder(str(root)).build(directory=str(folder), versions=["standard"])))
    with zipfile.ZipFile(archive) as wheel:
        return set(wheel.namelist())


def test_wheel_contains_the_package_and_its_configs_only(tmp_path: Path) -> None:
    names = wheel_names(ROOT, tmp_path)
    package = {n for n in names if ".dist-info/" not in n}
    assert "anoframe/py.typed" in package
    assert {"anoframe/report/assets/report.css", "anoframe/report/assets/report.js"} <= package
    assert sources("anoframe/report/templates", suffix=".html") <= package
    assert "anoframe/report/templates/base.html" in package
    assert {n for n in package if n.endswith(".py")} == sources("anoframe") | {
        f"anoframe/{c}" for c in sources("configs")
    }
    assert all(n.startswith("anoframe/") for n in package)
    assert not [n for n in package if "__pycache__" in n or n.endswith(".pyc")]
    assert any(n.endswith(".dist-info/licenses/LICENSE") for n in names)


def test_sdist_contains_the_project_without_data_and_runs(sdist: Path) -> None:
    names = {p.relative_to(sdist).as_posix() for p in sdist.rglob("*") if p.is_file()}
    assert sources("anoframe", "configs", "tools", "tests", "benchmarks") <= names
    assert {"LICENSE", "README.md", "pyproject.toml", "requirements.txt", "Makefile", "data/README.md"} <= names
    assert [n for n in names if n.startswith(("data/", "runs/", ".venv/"))] == ["data/README.md"]


def test_wheels_from_sdist_and_checkout_are_equal(sdist: Path, tmp_path: Path) -> None:
    assert wheel_names(sdist, tmp_path / "a") == wheel_names(ROOT, tmp_path / "b")


def test_editable_install_copies_no_configs(tmp_path: Path) -> None:
    """A copy in site-packages would become outdated and still be found first."""
    archive = next(iter(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["editable"])))
    with zipfile.ZipFile(archive) as wheel:
        assert [n for n in wheel.namelist() if ".dist-info/" not in n] == ["_anoframe.pth"]


# --- pins ------------------------------------------------------------------------------------------------------------


def pinned(python: str, platform: str, machine: str) -> dict[str, Version]:
    """Versions that `pip install -r requirements.txt` installs on a platform; a package pinned twice is an error."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": platform,
        "platform_machine": machine,
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[platform],
        "os_name": "nt" if platform == "win32" else "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    pins: dict[str, Version] = {}
    for line in PIN_LINES:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name not in pins, f"{name} is pinned twice on Python {python}, {platform} {machine}"
            pins[name] = Version(next(iter(requirement.specifier)).version)
    return pins


def test_pins_have_name_version_and_optional_marker_only() -> None:
    """No URL, index, hash, extra or local path: the file does not say where a package comes from."""
    assert PIN_LINES
    for line in PIN_LINES:
        pin, _, marker = line.partition(" ; ")
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin), line
        if marker:
            Marker(marker)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("platform", "machine"), PLATFORMS)
def test_pins_cover_every_declared_dependency_within_its_range(python: str, platform: str, machine: str) -> None:
    pins = pinned(python, platform, machine)
    for requirement in DECLARED:
        if requirement.marker is not None and not requirement.marker.evaluate({"python_version": python}):
            continue
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is declared but not pinned: make pins"
        assert pins[name] in requirement.specifier, f"{name} {pins[name]} is outside {requirement.specifier}: make pins"


def test_all_pythons_have_the_same_torch_and_torchvision() -> None:
    pairs = {(p["torch"], p["torchvision"]) for p in (pinned(v, "linux", "x86_64") for v in PYTHONS)}
    assert len(pairs) == 1
    torch, torchvision = pairs.pop()
    # torchvision 0.N is built for torch 2.(N - 15); the requirement on PyPI is looser than that
    assert (torch.major, torch.minor) == (2, torchvision.minor - 15)
    assert torch.local is torchvision.local is None, "both must be plain PyPI builds"


def test_supported_pythons_are_declared() -> None:
    specifier = Requirement(f"x{PROJECT['requires-python']}").specifier
    assert all(Version(f"{v}.0") in specifier for v in PYTHONS)
    assert Version("3.9.0") not in specifier
    assert Version("3.14.0") not in specifier
    listed = {c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if c.startswith("Programming Language :: Python :: ")}
    assert listed == set(PYTHONS)


# --- the test command of CI -----------------------------------------------------------------------------------------


def test_ci_runs_make_test_only() -> None:
    script = ROOT / ".ci" / "run"
    lines = [line for line in script.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert lines == ["set -euo pipefail", 'cd "$(dirname "${BASH_SOURCE[0]}")/.."', "exec make test"]
    assert script.stat().st_mode & 0o111


def test_make_test_runs_lint_types_and_all_tests() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = dict(re.findall(r"^([a-z]+):([^#\n]*)", makefile, flags=re.MULTILINE))
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)
    assert rules["test"].split() == ["lint"]
    assert rules["lint"].split() == rules["demo"].split() == ["setup"]
    assert recipe is not None
    assert lint is not None
    assert recipe[1].split("\n")[:-1] == ["\t$(PY) -m pytest --numprocesses $(JOBS) --dist worksteal $(ARGS)"]
    assert re.findall(r"-m (.*)", lint[1]) == ["ruff check .", "ruff format --check .", "mypy"]
