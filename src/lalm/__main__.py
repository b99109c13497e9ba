"""`python -m lalm`."""

from lalm.cli import run

run()
