"""The hearing check: whether a model hears its recordings, alike in any batch, and learns the answers and nothing else.

It sees losses alone, so it fits every backbone: a loss that another recording does not move was computed without hearing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from lalm.contracts import Model
from lalm.data import audio
from lalm.data.dialogue import with_recordings
from lalm.records import Example

if TYPE_CHECKING:
    from torch import Tensor

NUM_ROWS = 4  # of each kind
# relative to a loss: what another recording changes it by at least (one that is not heard changes nothing at all), and what
# the rows beside it change it by at most (rounding); in float32, and in bfloat16, float16 and four bits
FINE, COARSE = (1e-5, 1e-4), (1e-3, 2e-2)


@dataclass(frozen=True)
class Finding:
    """One question of the check and its answer."""

    question: str
    holds: bool
    measured: str


def hearing_check(model: Model, texts: Sequence[Example], recordings: Sequence[Example]) -> list[Finding]:
    """The answers for a few rows; `recordings` must not be empty. The model is left in the mode it was in."""
    import torch

    texts, recordings = texts[:NUM_ROWS], recordings[:NUM_ROWS]
    was_training = model.module.training
    model.module.eval()
    try:
        with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            return [
                *_heard(model, recordings, Path(folder)),
                _placeholders(model, recordings),
                *_batches(model, texts, recordings),
                _labels(model, [*texts, *recordings]),
            ]
    finally:
        model.module.train(was_training)


def _losses(model: Model, examples: Sequence[Example]) -> Tensor:
    nll, _ = model.loss(model.batch(examples))
    return nll.double().cpu()


def _change(before: Tensor, after: Tensor) -> Tensor:
    return (after - before).abs() / before.abs().clamp(min=1e-12)


def _limits(model: Model) -> tuple[float, float]:
    """Those of the coarsest number format among the weights."""
    kinds = {p.dtype.itemsize for p in model.module.parameters()}
    return FINE if min(kinds) >= 4 else COARSE


def _heard(model: Model, recordings: Sequence[Example], folder: Path) -> list[Finding]:
    """Every recording replaced by another one (by noise, if there is no other), and by silence.

    What replaces it is made as long as it is: a row of another length has another loss, heard or not.
    """
    sounds = [[audio.load(path) for path in row.recordings] for row in recordings]
    silent, other = [], []
    for index, (example, own) in enumerate(zip(recordings, sounds, strict=True)):
        next_ones = sounds[(index + 1) % len(sounds)]
        following = [np.resize(next_ones[i % len(next_ones)], len(sound)) for i, sound in enumerate(own)]
        if all(map(np.array_equal, following, own)):
            rng = np.random.default_rng(index)
            following = [0.1 * rng.standard_normal(len(sound)) for sound in own]
        other.append(_with_sounds(example, following, folder, f"other-{index}"))
        silent.append(_with_sounds(example, [np.zeros(len(sound)) for sound in own], folder, f"silent-{index}"))
    before = _losses(model, recordings)
    findings = []
    for question, changed in (("another recording changes the loss", other), ("silence is not speech", silent)):
        change = _change(before, _losses(model, changed))
        findings.append(
            Finding(question, bool(change.max() > _limits(model)[0]), f"the losses change by {_span(change)}")
        )
    return findings


def _with_sounds(example: Example, sounds: Sequence[np.ndarray], folder: Path, name: str) -> Example:
    paths = [folder / f"{name}-{number}.wav" for number in range(len(sounds))]
    for path, samples in zip(paths, sounds, strict=True):
        soundfile.write(path, samples, 16_000, subtype="FLOAT")
    return with_recordings(example, paths)


def _span(change: Tensor) -> str:
    low, high = f"{float(change.min()):.2g}", f"{float(change.max()):.2g}"
    return f"{low} of their size" if low == high else f"{low} to {high} of their size"


def _placeholders(model: Model, recordings: Sequence[Example]) -> Finding:
    places, vectors = model.audio_positions(recordings)
    return Finding(
        "positions held for audio equal what is heard", places == vectors > 0, f"{places} positions, {vectors} vectors"
    )


def _batches(model: Model, texts: Sequence[Example], recordings: Sequence[Example]) -> list[Finding]:
    import torch

    most = _limits(model)[1]
    mixed = [row for row in chain.from_iterable(zip_longest(recordings, texts)) if row is not None]
    together = _losses(model, mixed)
    alone = torch.cat([_losses(model, [row]) for row in mixed])
    change = _change(alone, together)
    findings = [
        Finding(
            f"a batch of {len(mixed)} equals batches of one",
            bool(change.max() <= most),
            f"within {change.max():.1g}",
        )
    ]
    if texts:
        written = torch.tensor([row.modality == "text" for row in mixed])
        change = _change(_losses(model, texts), together[written])
        findings.append(
            Finding(
                "text rows do not hear the recordings beside them",
                bool(change.max() <= most),
                f"within {change.max():.1g}",
            )
        )
    return findings


def _labels(model: Model, examples: Sequence[Example]) -> Finding:
    labels = model.batch(examples).decoded_labels(model.tokenizer)
    wrong = [
        f"{row.id}: {label!r} for {row.answer!r}"
        for row, label in zip(examples, labels, strict=True)
        if not label.startswith(row.answer) or label == row.answer
    ]
    ends = {label.removeprefix(row.answer) for row, label in zip(examples, labels, strict=True)}
    shown = f"all {len(labels)} and the end {', '.join(sorted(ends))}; for example {labels[-1]}"
    return Finding(
        "the labels are the answers and their end", not wrong and len(ends) == 1, wrong[0] if wrong else shown
    )


def as_text(findings: Sequence[Finding]) -> str:
    """A line a finding."""
    lines = ["Hearing"]
    lines += [f"  {'yes' if one.holds else 'NO '}  {one.question}: {one.measured}" for one in findings]
    return "\n".join(lines)
