"""W&B in tests: offline, without an account, and with nothing of the user's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def no_account(tmp_path_factory) -> Iterator[pytest.MonkeyPatch]:
    """The environment of a user who never used W&B; it ends with the module, and so does the service of W&B."""
    import wandb

    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("NETRC", str(home / "netrc"))
        for name in ("CONFIG", "CACHE"):
            patch.setenv(f"WANDB_{name}_DIR", str(home / name))
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        wandb.teardown()
        wandb.setup()  # reads the environment once
        yield patch
        wandb.teardown()


@pytest.fixture(scope="module")
def offline(no_account) -> None:
    no_account.setenv("WANDB_MODE", "offline")


class Told:
    """Takes events and keeps them."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def log(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def close(self, status: str) -> None:
        self.events.append(("close", {"status": status}))

    def texts(self, event: str = "warning") -> list[str]:
        return [fields["text"] for name, fields in self.events if name == event]


@pytest.fixture
def told() -> Told:
    return Told()
