"""Fixtures of tests with several processes."""

from processes import process_pool  # noqa: F401
