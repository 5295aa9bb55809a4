"""Fixtures of training tests."""

from training_fixtures import *  # noqa: F403
