"""What is measured: fixed scenarios, and the same made-up material for both sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
import soundfile

from lalm.records import Example

RATE_HZ = 16_000
SIDES = ("plain", "lalm")
REORDERED = "reordered"  # the plain side with the rows of every step the other way round
WORDS = (
    "lights",
    "music",
    "alarm",
    "kitchen",
    "bedroom",
    "volume",
    "louder",
    "weather",
    "tomorrow",
    "calendar",
    "meeting",
    "timer",
    "heating",
    "window",
    "coffee",
    "radio",
    "station",
    "playlist",
    "remind",
    "shopping",
    "list",
    "train",
    "ticket",
    "message",
    "answer",
    "call",
    "evening",
    "morning",
    "minutes",
    "degrees",
    "warmer",
    "colder",
)


@dataclass(frozen=True)
class Scenario:
    """Speech rows alone: `num_steps` optimizer steps an epoch of `batch_size` rows with clips of 3 to 9 s.

    `prompt_tokens` and `answer_tokens` (the end of the turn included) are lengths in tokens of the language model.
    `plain_rows` at once go through the plain reference, which adds up their gradients: for batches that would not fit.
    """

    name: str
    summary: str
    backbone: str
    prompt_tokens: int
    batch_size: int
    num_steps: int
    answer_tokens: int = 40
    clip_s: tuple[float, float] = (3.0, 9.0)
    size: Literal["published", "tiny", "middle", "7b"] = "published"
    precision: Literal["float32", "bfloat16"] | None = None  # None: as the command says
    plain_rows: int | None = None  # None: the batch
    instruction_first: bool = False  # of backbones of one class; in the others it stands there anyway

    def in_plain_portions(self, batch: Sequence[Example]) -> list[Sequence[Example]]:
        """The micro-batches of the plain reference."""
        size = self.plain_rows or self.batch_size
        return [batch[start : start + size] for start in range(0, len(batch), size)]


SCENARIOS = {
    one.name: one
    for one in (
        Scenario("short", "smol, a prompt of 200 tokens, batches of 8", "smol", 200, 8, 2),
        # eight rows at once hold 22 GB in the plain reference (docs/performance.md)
        Scenario(
            "long",
            "smol, a prompt of 600 tokens with the list of labels, batches of 32",
            "smol",
            600,
            32,
            1,
            plain_rows=8,
        ),
        Scenario(
            "mid",
            "Qwen2-Audio's class at middle size, random weights, batches of 8",
            "qwen2_audio",
            200,
            8,
            1,
            size="middle",
            plain_rows=2,
        ),
        Scenario(
            "qwen2_audio_7b",
            "Qwen2-Audio's class at the size of its 7B release, random weights in bfloat16, batches of 8: one GPU of 80 GB",
            "qwen2_audio",
            200,
            8,
            8,
            size="7b",
            precision="bfloat16",
            instruction_first=True,
        ),
        Scenario(
            "qwen2_audio_7b_long",
            "the same with a prompt of 600 tokens and batches of 32: one GPU of 141 GB",
            "qwen2_audio",
            600,
            32,
            2,
            size="7b",
            precision="bfloat16",
            plain_rows=8,
            instruction_first=True,
        ),
        Scenario(
            "tiny", "a tiny model: to try the command", "smol", 60, 2, 2, 8, (0.3, 0.9), size="tiny", plain_rows=1
        ),
    )
}


def material(folder: Path, scenario: Scenario, count_tokens: Callable[[str], int]) -> list[Example]:
    """The rows, seeded; their clips are written to `folder` (seeded noise that swells as syllables do)."""
    rng = Random(scenario.name)
    instruction = of_length(scenario.prompt_tokens, count_tokens, rng)
    rows = []
    for number in range(scenario.batch_size * scenario.num_steps):
        path = folder / f"{number}.wav"
        if not path.is_file():
            duration_s = rng.uniform(*scenario.clip_s)
            soundfile.write(path, clip(duration_s, np.random.default_rng(number)), RATE_HZ)
        answer = of_length(scenario.answer_tokens - 1, count_tokens, Random(f"{scenario.name}/{number}"))
        rows.append(Example(id=str(number), instruction=instruction, answer=answer, audio=path))
    return rows


def of_length(num_tokens: int, count_tokens: Callable[[str], int], rng: Random) -> str:
    """Words of just so many tokens, or one or two fewer where no word fits."""
    words: list[str] = []
    while count_tokens(" ".join(words)) < num_tokens:
        words.append(rng.choice(WORDS))
    while words and count_tokens(" ".join(words)) > num_tokens:
        words.pop()
    while count_tokens(" ".join([*words, "a"])) <= num_tokens:
        words.append("a")
    return " ".join(words)


def clip(duration_s: float, rng: np.random.Generator) -> np.ndarray:
    """Noise [num_samples] at 16 kHz that swells as syllables do."""
    time_s = np.arange(int(duration_s * RATE_HZ)) / RATE_HZ
    swell = np.abs(np.sin(2 * np.pi * rng.uniform(1.5, 3.0) * time_s))
    return (0.1 * swell * rng.standard_normal(len(time_s))).astype(np.float32)
