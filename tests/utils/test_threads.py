"""The waiting policy of OpenMP threads."""

import os

from anoframe.utils.console import run_command
from anoframe.utils.threads import wait_without_spinning


def test_a_command_lets_waiting_threads_sleep(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    policies = []
    run_command(lambda: policies.append(os.environ.get("OMP_WAIT_POLICY")) or 0, "")
    assert policies == ["PASSIVE"]


def test_a_policy_of_the_user_stays(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_without_spinning()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
