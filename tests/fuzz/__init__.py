"""Damaged files in, clean errors or valid files out: no crash, no hang, nothing left behind."""
