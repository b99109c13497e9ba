"""lalm: adapt a large audio language model to spoken language understanding with much text and little speech."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lalm.evaluate.understander import Understander


def load(run: str) -> Understander:
    """The trained model of a run folder, ready to be called: `lalm.load("out/run")("order.wav") -> Frame`."""
    from lalm.evaluate.understander import Understander

    return Understander.from_run(run)
