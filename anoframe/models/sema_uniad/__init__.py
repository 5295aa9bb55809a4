"""SEMA-UniAD."""
