"""Budgets of tests, which a sanitizer's own memory must not use up: it counts as resident like everything else."""

import os

SANITIZER_MIB = int(os.environ.get("SLUICE_SANITIZER_MIB", "0"))


def mebibytes(number):
    """For --max-memory: so many MiB of the program as people run it."""
    return f"{number + SANITIZER_MIB}MiB"
