"""Import rules: light commands import no heavy packages, and packages import from lower layers only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import anoframe

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(anoframe.__file__).parent
HEAVY = ("torch", "torchvision", "timm", "numpy", "PIL", "skimage", "scipy", "safetensors")
CONFIG = "patchcore_noising/patchcore_noising_256_100e.py"
SCRIPT = """
import sys
{work}
print("heavy:", *(name for name in {heavy} if name in sys.modules))
"""
CLI_CALL = """
from anoframe.cli import main
try:
    main({words})
except SystemExit:
    pass
"""
GRID_CLI_CALL = CLI_CALL.replace("anoframe.cli", "anoframe.grid.cli")
TOOL_CALL = (
    "import runpy, sys; from contextlib import suppress; sys.argv = ['{tool}', '--help']\n"
    "with suppress(SystemExit): runpy.run_path('tools/{tool}', run_name='__main__')"
)


def heavy_modules(work: str, message: str = "") -> list[str]:
    """Heavy modules that a new Python process has imported after `work`, which printed `message` to stderr."""
    script = SCRIPT.format(work=work, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert message in done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    "work",
    [
        "import anoframe; dir(anoframe)",
        "import anoframe; anoframe.load_config('patchcore/patchcore_224.py')",
        "from anoframe.registry import DATASETS, MODELS; MODELS.names(); DATASETS.names()",
        CLI_CALL.format(words=["--help"]),
        CLI_CALL.format(words=["--version"]),
        CLI_CALL.format(words=["--cache", "clear"]),
        CLI_CALL.format(words=["--config", CONFIG, "--print_config"]),
        CLI_CALL.format(words=["--config", CONFIG, "--diff_config"]),
        GRID_CLI_CALL.format(words=["--help"]),
    ],
    ids=["import", "load_config", "registry", "help", "version", "clear", "print_config", "diff_config", "grid_help"],
)
def test_command_imports_no_heavy_package(work):
    assert heavy_modules(work) == []


@pytest.mark.parametrize("tool", sorted(path.name for path in (ROOT / "tools").glob("*.py")))
def test_help_of_a_tool_imports_no_torch(tool):
    assert "torch" not in heavy_modules(TOOL_CALL.format(tool=tool))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cls_names", "flet"], "did you mean 'felt'"),
        (["--protocol.tasks", "felt;mish"], "did you mean 'mesh'"),
        (["--cls_names", "felt", "--data.root", "nowhere"], "nowhere does not exist: --data.root"),
    ],
)
def test_wrong_data_and_categories_are_errors_before_torch_is_imported(tiny_root, words, message):
    given = ["--config", "uniad/uniad_lite0.py", "--data.name", "folder", "--data.root", str(tiny_root)]
    assert "torch" not in heavy_modules(CLI_CALL.format(words=[*given, *words]), message)


def test_tools_main_works_from_any_folder(tmp_path):
    command = [sys.executable, str(ROOT / "tools" / "main.py"), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, f"anoframe {anoframe.__version__}")


def test_tools_main_returns_the_exit_status(tmp_path):
    command = [sys.executable, str(ROOT / "tools" / "main.py"), "--config", "no_such.py", "--print_config"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no config")


@pytest.mark.parametrize("name", sorted({*anoframe.__all__} - {"__version__"}))
def test_public_names_are_callable(name):
    assert callable(getattr(anoframe, name))


def test_dir_lists_public_names():
    assert set(dir(anoframe)) == set(anoframe.__all__)


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        _ = anoframe.fit  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------ the layers

# A package may import from its own line and from the lines below it.
LAYERS = (
    ("__main__",),
    ("cli", "cli_options", "commands", "pretrain", "evaluate_encoder"),
    ("survey",),
    ("grid",),
    ("exporting",),
    ("runs",),
    ("report",),
    ("training", "continual"),
    ("deploy",),
    ("evaluation",),
    ("features",),
    ("pretraining",),
    ("tracking", "models"),
    ("backbones", "data", "metrics"),
    ("config", "registry"),
    ("utils",),
    ("distributed",),
    ("types",),
    ("errors",),
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}


def imported(path: Path) -> set[str]:
    """Top-level packages of anoframe that a module imports."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("anoframe.")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_import_from_lower_layers_only(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part == "__init__":
        return
    assert {other for other in imported(path) if LEVEL[other] < LEVEL[part]} == set()


@pytest.mark.parametrize("path", sorted((PACKAGE / "metrics").glob("*.py")), ids=lambda path: path.name)
def test_metrics_import_no_framework_types(path):
    assert imported(path) <= {"errors", "metrics"}
