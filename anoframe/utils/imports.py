"""Faster imports of large packages, which take most of the time until the first result of a command."""

from __future__ import annotations

import gc
import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

# timm imports wandb, if it is installed, for a training script that is not used here. Trackers import it when needed.
_NOT_NEEDED = ("wandb",)
_freezes = False  # whether this process is a program that called `keep_imported_objects`


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import modules in this block without collecting garbage, and without packages that nothing in it needs.

    Importing torch and timm creates very many objects that live as long as the process. The collector would examine
    them again and again without freeing any.
    """
    was_enabled = gc.isenabled()
    hidden = [name for name in _NOT_NEEDED if name not in sys.modules]
    gc.disable()
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: the import system raises ImportError
    try:
        yield
    finally:
        for name in hidden:
            if name in sys.modules and sys.modules[name] is None:
                del sys.modules[name]
        if _freezes:
            gc.freeze()
        if was_enabled:
            gc.enable()


def load_timm(part: str = "") -> ModuleType:
    """Import timm, or a part of it, when it is needed.

    With torchvision it takes as long as torch, and a run on features from the cache builds no network.
    """
    name = f"timm.{part}" if part else "timm"
    if name in sys.modules:  # not again: `quick_imports` may freeze, and would keep the detectors that exist by now
        return sys.modules[name]
    with quick_imports():
        return importlib.import_module(name)


def import_in_background(*names: str) -> None:
    """Start to import modules in a thread, while this one computes outside the interpreter lock.

    A module that cannot be imported raises its error where it is used. Do not fork meanwhile: the child may wait
    forever for a module that is half imported.
    """

    def load() -> None:
        for name in names:
            with suppress(ImportError):
                importlib.import_module(name)

    threading.Thread(target=load, daemon=True).start()


def keep_imported_objects() -> None:
    """Exclude all objects that exist now from garbage collection, and those of later `quick_imports`.

    For programs, not for libraries: a reference cycle among these objects is never freed.
    """
    global _freezes
    _freezes = True
    gc.freeze()
