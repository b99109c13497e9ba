"""What `lalm data validate` found: problems by check, and the numbers that describe the data."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Severity = Literal["error", "warning"]

# check -> how bad, and what it is. Errors are what `lalm train` refuses, or a label that the ontology forbids.
CHECKS: dict[str, tuple[Severity, str]] = {
    "row": ("error", "rows that cannot be read"),
    "id_twice": ("error", "ids that stand there twice"),
    "audio_missing": ("error", "recordings that are not there"),
    "audio_unreadable": ("error", "recordings that cannot be read"),
    "audio_nan": ("error", "recordings with NaN or infinite samples"),
    "audio_in_both": ("error", "recordings in training and in another split"),
    "speaker_in_test": ("error", "speakers in training and in the test"),
    "speaker_in_dev": ("warning", "speakers in training and in dev"),
    "label_forbidden": ("error", "labels that the ontology does not know"),
    "label_unseen": ("warning", "labels of dev or test that no training row has"),
    "label_missing": ("warning", "rows without a label"),
    "label_conflict": ("warning", "sentences with different labels"),
    "slot_unsaid": ("warning", "slot values that are not in the transcript"),
    "answer_unsaid": ("warning", "answers that are said in none of the turns"),
    "text_in_both": ("warning", "sentences of dev or test that stand in training"),
    "text_near": ("warning", "sentences of dev or test that differ from one in training by a word"),
    "duration_stated": ("warning", "durations that are not those of the file"),
    "duration_odd": ("warning", "recordings that are oddly short or long"),
    "sample_rate": ("warning", "sample rates below 16 kHz, or unlike the others"),
    "channels": ("warning", "recordings with several channels, which are averaged"),
    "audio_silent": ("warning", "recordings in which nothing is heard"),
    "audio_clipped": ("warning", "recordings that are clipped"),
}
KEPT = 20_000  # problems of a check that are kept in words; all are counted


@dataclass(frozen=True)
class Problem:
    """One problem: where it is, in which row and field, the value, and what is wrong with it."""

    check: str
    message: str
    file: str
    line: int | None = None
    row: str | None = None
    field: str | None = None
    value: str | None = None

    @property
    def where(self) -> str:
        """`manifest.jsonl:12`, or the file alone."""
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Clip:
    """A row with a recording, to be listened to."""

    where: str
    row: str
    split: str
    path: Path
    text: str | None
    intent: str | None
    slots: tuple[str, ...]
    duration_s: float | None
    why: str


@dataclass
class SplitNumbers:
    """What a split holds."""

    rows: int = 0
    recordings: int = 0
    seconds: float = 0.0
    words: Counter[int] = field(default_factory=Counter)  # length of sentences in words -> how many
    intents: Counter[str] = field(default_factory=Counter)
    slot_types: Counter[str] = field(default_factory=Counter)
    durations_s: Counter[float] = field(default_factory=Counter)  # to a tenth of a second
    speakers: set[str] = field(default_factory=set)

    def to_json(self) -> dict[str, Any]:
        """Numbers alone."""
        return {
            "rows": self.rows,
            "recordings": self.recordings,
            "hours": round(self.seconds / 3600, 3),
            "speakers": len(self.speakers),
            "intents": dict(self.intents.most_common()),
            "slot_types": dict(self.slot_types.most_common()),
        }


@dataclass
class Findings:
    """Everything that was found in `source`."""

    source: str
    decoded: bool
    splits: dict[str, SplitNumbers] = field(default_factory=dict)
    sample_rates: Counter[int] = field(default_factory=Counter)
    channels: Counter[int] = field(default_factory=Counter)
    peaks_db: Counter[int] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    problems: dict[str, list[Problem]] = field(default_factory=dict)
    clips: list[Clip] = field(default_factory=list)

    def add(self, problem: Problem) -> None:
        """Count a problem, and keep it while there is room."""
        self.counts[problem.check] += 1
        kept = self.problems.setdefault(problem.check, [])
        if len(kept) < KEPT:
            kept.append(problem)

    def number(self, severity: Severity) -> int:
        """How many problems are that bad."""
        return sum(count for check, count in self.counts.items() if CHECKS[check][0] == severity)

    @property
    def found(self) -> list[str]:
        """The checks that found something, the worst first."""
        return [check for check in CHECKS if self.counts[check]]

    def to_json(self) -> dict[str, Any]:
        """All of it but the clips; `problems` holds at most `KEPT` of a check, `checks` counts them all."""
        return {
            "source": self.source,
            "decoded": self.decoded,
            "errors": self.number("error"),
            "warnings": self.number("warning"),
            "splits": {name: numbers.to_json() for name, numbers in self.splits.items()},
            "sample_rates_hz": {str(rate): number for rate, number in self.sample_rates.most_common()},
            "channels": {str(one): number for one, number in self.channels.most_common()},
            "languages": dict(self.languages.most_common()),
            "sources": dict(self.sources.most_common()),
            "checks": {
                check: {"severity": CHECKS[check][0], "title": CHECKS[check][1], "count": self.counts[check]}
                for check in self.found
            },
            "problems": [
                {"severity": CHECKS[check][0], **asdict(problem)}
                for check in self.found
                for problem in self.problems[check]
            ],
        }
