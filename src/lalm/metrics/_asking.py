"""Asking back: whether it was right, and whether it was done (an answer asks back if it ends with a question mark)."""

from __future__ import annotations

from lalm.records import Reading

Counts = tuple[float, float, float, float]


def counts(reference: Reading, hypothesis: Reading) -> Counts | None:
    """(asked rightly, asked wrongly, not asked though ambiguous, rightly not asked); None where the question does not arise."""
    if reference.asks is None:
        return None
    right, asked = reference.asks, bool(hypothesis.asks)
    return (
        float(right and asked),
        float(asked and not right),
        float(right and not asked),
        float(not right and not asked),
    )
