"""Fixtures of training tests."""

from processes import process_pool  # noqa: F401
from training_fixtures import *  # noqa: F403
