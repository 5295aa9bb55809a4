"""PatchCore with adaptive noising."""
