"""Recordings that last longer than an encoder hears at once: cut where it is quietest, and heard one chunk after another.

A chunk is heard as a recording of its own is, with its own positions and its own margin of silence, and what the connector
makes of the chunks stands side by side. So a passage of two minutes is to the language model what its pieces would be that
somebody had cut by hand, and what was trained on short recordings meets nothing new.

Whisper's authors decode long recordings window by window, with timestamps that the model predicts (arXiv 2212.04356, section
4.5); a plain encoder has none, so the pause is looked for in the waveform. The chunks are about equally long, and each cut
is at the quietest fifth of a second within three seconds of where equal chunks would end: people pause every few words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lalm.backbones._listening import SAMPLE_RATE_HZ, Listening
from lalm.data import audio
from lalm.data.spec_augment import FeatureChanges, changes_of

SLACK_S = 3.0
QUIET_S = 0.2  # how long it is to be quiet around a cut: a stop consonant is silent for less than that
_STEP_S = 0.01  # between places that are looked at
CUT = f"cut-{SLACK_S:g}-{QUIET_S:g}"  # names how it is done; another number where that changes


def cut(samples: np.ndarray, longest: int) -> list[np.ndarray]:
    """Samples [num_samples] at 16 kHz as chunks of at most `longest` samples, which together are all of them."""
    if len(samples) <= longest:
        return [samples]
    slack = min(int(SLACK_S * SAMPLE_RATE_HZ), longest // 8)
    number = -(-len(samples) // (longest - 2 * slack))
    loudness = np.concatenate(([0.0], np.cumsum(np.square(samples, dtype=np.float64))))
    cuts = [_quietest(loudness, index * len(samples) // number, slack) for index in range(1, number)]
    return [samples[start:end] for start, end in zip([0, *cuts], [*cuts, len(samples)], strict=True)]


def _quietest(loudness: np.ndarray, middle: int, slack: int) -> int:
    """The quietest place within `slack` samples of `middle`, the nearest of several; `loudness` [num_samples + 1] is summed up."""
    step, half = int(_STEP_S * SAMPLE_RATE_HZ), int(QUIET_S * SAMPLE_RATE_HZ) // 2
    away = step * np.arange(slack // step + 1)
    places = middle + np.stack([away, -away], axis=1).ravel()  # the nearest first
    last = len(loudness) - 1
    around = loudness[np.minimum(places + half, last)] - loudness[np.maximum(places - half, 0)]
    # differences of long sums are rounded: what is quiet to a millionth of it all counts as alike
    return int(places[np.argmin(np.round(around / (loudness[-1] or 1.0), 9))])


@dataclass(frozen=True)
class Chunk:
    """Samples [num_samples] at 16 kHz of a recording, its name for messages, and what is altered in its features."""

    samples: np.ndarray
    name: str
    change: FeatureChanges | None


def chunks_of(listening: Listening, path: Path) -> list[Chunk]:
    """A recording as an encoder hears it. Raises DataError for unreadable audio."""
    change = changes_of(path)
    return [
        Chunk(samples, str(path), _of_chunk(change, number))
        for number, samples in enumerate(cut(audio.load(path, SAMPLE_RATE_HZ), listening.longest_samples))
    ]


def _of_chunk(change: FeatureChanges | None, number: int) -> FeatureChanges | None:
    """Each chunk is altered elsewhere."""
    return change if change is None or number == 0 else change.model_copy(update={"name": f"{change.name}/{number}"})


def hear(encoder: Any, chunks: Sequence[Chunk]) -> tuple[Tensor, Tensor]:
    """Encoder frames [chunks, frames, width] and their mask [chunks, frames]."""
    return encoder.hear(
        *encoder.listening.collate(
            encoder.feature_extractor,
            [chunk.samples for chunk in chunks],
            [chunk.name for chunk in chunks],
            [chunk.change for chunk in chunks],
        )
    )


def joined(items: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What was prepared of a recording's chunks as one entry of the cache; of one chunk just that."""
    return {
        f"{index}/{name}" if index else name: array for index, item in enumerate(items) for name, array in item.items()
    }


def separate(item: Mapping[str, np.ndarray]) -> tuple[Mapping[str, np.ndarray], ...]:
    """Inverse of `joined`; arrays are looked up when they are used."""
    number = 1 + max((int(name.partition("/")[0]) for name in item if "/" in name), default=0)
    return (item,) if number == 1 else tuple(_OfChunk(item, index) for index in range(number))


class _OfChunk(Mapping[str, np.ndarray]):
    """The arrays of one chunk of a recording."""

    def __init__(self, item: Mapping[str, np.ndarray], index: int) -> None:
        self._item, self._before = item, f"{index}/" if index else ""

    def __getitem__(self, name: str) -> np.ndarray:
        return self._item[self._before + name]

    def __iter__(self) -> Iterator[str]:
        for name in self._item:
            own, slash, rest = name.partition("/")
            if not self._before and not slash:
                yield name
            elif slash and f"{own}/" == self._before:
                yield rest

    def __len__(self) -> int:
        return sum(1 for _ in self)
