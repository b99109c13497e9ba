"""Numbers and names as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lalm import plugins
from lalm.report.rows import Interval, Point

NONE = "–"
_TITLES = {
    "wer": "word error rate",
    "wer_orthographic": "word error rate as written",
    "cer": "character error rate",
    "slu_f1": "SLU-F1",
    "entity_f1": "entity F1",
    "squad_em": "EM of answers",
    "squad_f1": "F1 of answers",
}
_PER_ANSWER = ("extra_slots",)  # a number, not a share


@dataclass(frozen=True)
class Metric:
    """A metric's name, direction and unit. Shares are shown in per cent, their differences in points (0.01)."""

    name: str
    title: str
    higher_is_better: bool
    summary: str
    scale: float

    @property
    def unit(self) -> str:
        """`%`, or `per answer`."""
        return "%" if self.scale == 100 else "per answer"

    def number(self, value: float | None) -> str:
        """The value without its unit: `87.3`."""
        return NONE if value is None else f"{self.scale * value:.{self._digits}f}"

    def shown(self, value: float | None) -> str:
        """The value with its unit: `87.3 %`."""
        return NONE if value is None else f"{self.number(value)} {self.unit}"

    def range(self, score: Interval) -> str:
        """The interval without unit: `82.1 to 91.5`."""
        return NONE if score.low is None else f"{self.number(score.low)} to {self.number(score.high)}"

    def signed(self, value: float | None) -> str:
        """A difference: `+4.2`; `0.0` has no sign."""
        if value is None:
            return NONE
        text = f"{self.scale * value:+.{self._digits}f}"
        return (text[1:] if float(text) == 0 else text).replace("-", "−")

    def points(self, value: float) -> str:
        """A size of a difference in words: `4 points`, `less than 1 point`."""
        if self.scale != 100:
            return f"{value:.2f} {self.unit}"
        whole = round(100 * abs(value))
        return "less than 1 point" if whole == 0 else f"{whole} point{'' if whole == 1 else 's'}"

    @property
    def _digits(self) -> int:
        return 1 if self.scale == 100 else 2


def metric(name: str, facts: Mapping[str, Mapping[str, Any]] | None = None) -> Metric:
    """What is known of a metric: from the results that name it, else from the plug-in here, else by its name alone."""
    known = dict((facts or {}).get(name, {}))
    if "higher_is_better" not in known and name in plugins.names("metrics"):
        known["higher_is_better"] = plugins.load("metrics", name).HIGHER_IS_BETTER
        known.setdefault("summary", plugins.summary("metrics", name))
    return Metric(
        name,
        _TITLES.get(name, name.replace("_", " ")),
        bool(known.get("higher_is_better", True)),
        str(known.get("summary", "")),
        1.0 if name in _PER_ANSWER else 100.0,
    )


def recordings(number: int) -> str:
    """`1 recording`, `22 recordings`, `no recordings`."""
    return "no recordings" if number == 0 else f"{number} recording{'' if number == 1 else 's'}"


def capital(text: str) -> str:
    """With a capital at the beginning; names within stay as they are."""
    return text[:1].upper() + text[1:]


def share(value: float) -> str:
    """`10 %`."""
    return f"{100 * value:.3g} %"


def where(point: Point) -> str:
    """`22 recordings (10 %)`."""
    return f"{recordings(point.num_speech)} ({share(point.speech_share)})"


def duration(seconds: float) -> str:
    """`42 s`, `3.5 min`, `1.2 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
