"""W&B in tests: offline, without an account, and isolated from the settings of the user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def no_account(tmp_path_factory) -> Iterator[pytest.MonkeyPatch]:
    """The environment of a user without a W&B account, until the end of the module; then W&B's service is stopped."""
    import wandb

    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("NETRC", str(folder / "netrc"))
        for name in ("CONFIG", "CACHE"):
            patch.setenv(f"WANDB_{name}_DIR", str(folder / name))
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        wandb.teardown()
        wandb.setup()  # reads the environment once
        yield patch
        wandb.teardown()


@pytest.fixture(scope="module")
def offline(no_account) -> None:
    """W&B in offline mode, without an account."""
    no_account.setenv("WANDB_MODE", "offline")


class Recorder:
    """A tracker that keeps its events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def log(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def close(self, status: str) -> None:
        self.events.append(("close", {"status": status}))

    def texts(self, event: str = "warning") -> list[str]:
        """Texts of all events of a name."""
        return [fields["text"] for name, fields in self.events if name == event]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
