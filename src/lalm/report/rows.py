"""What `results.json` holds, row by row: required keys are checked before anything is drawn."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat


class _Row(BaseModel):
    """Required keys are checked, unknown ones kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Interval(_Row):
    """A metric's value with its 95 % interval; None where nothing could be counted."""

    value: FiniteFloat | None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    n: int = 0


class Cell(_Row):
    """One run."""

    scheme: str
    tuner: str | None = None
    connector: str | None = None
    selector: str | None = None
    synthetic: bool = False
    speech_passes: FiniteFloat | None = None
    speech_share: FiniteFloat = Field(ge=0)
    num_speech: int = Field(ge=0)
    seed: int
    metrics: dict[str, Interval]
    status: dict[str, int] = {}
    seconds: FiniteFloat
    run: str
    config_hash: str


class Reference(_Row):
    """A run to compare with, or the reason why there is none."""

    name: str
    metrics: dict[str, Interval] | None
    reason: str | None = None


class Point(_Row):
    """Runs of all seeds at one share, averaged. `borrowed`: the text-only point that another scheme's curve starts at."""

    speech_share: FiniteFloat
    num_speech: int
    seeds: tuple[int, ...]
    runs: tuple[str, ...] = Field(min_length=1)
    metrics: dict[str, Interval]
    seed_values: dict[str, tuple[FiniteFloat | None, ...]] = {}
    status: dict[str, int] = {}
    seconds: FiniteFloat
    borrowed: bool = False


class Curve(_Row):
    """The points of one scheme (and variant), or of a reference, by rising share."""

    role: Literal["cell", "cascade", "oracle_text"]
    label: str
    scheme: str | None = None
    selector: str | None = None
    synthetic: bool = False
    options: dict[str, Any] = {}
    uses_text: bool = True
    points: tuple[Point, ...] = Field(min_length=1)
    covariance: list[list[FiniteFloat]] | None = None

    @property
    def own(self) -> tuple[Point, ...]:
        """The points without the borrowed start."""
        return tuple(point for point in self.points if not point.borrowed)

    @property
    def name(self) -> str:
        """The label as a person reads it."""
        return self.label.replace("_", " ")

    def trait(self, key: str) -> Any:
        """What its runs have in common (`variant`, `tuner`, `connector`); None where the results do not say."""
        return (self.model_extra or {}).get(key)


class Comparison(_Row):
    """A paired difference a - b. Sides are the runs of all seeds, or one run each."""

    a: str
    b: str
    a_runs: tuple[str, ...] = ()
    b_runs: tuple[str, ...] = ()
    metric: str
    difference: FiniteFloat | None
    low: FiniteFloat | None
    high: FiniteFloat | None
    verdict: Literal["better", "worse", "undecided"]


class LanguagePoint(_Row):
    """One way of training (`runs`: its seeds) in one test language, heard or read; `trained_on`: language -> numbers of rows."""

    name: str
    variant: str | None = None
    speech_share: FiniteFloat
    runs: tuple[str, ...] = Field(min_length=1)
    trained_on: dict[str, dict[str, int]] = {}
    language: str
    modality: Literal["speech", "text"]
    value: FiniteFloat | None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    n: int = 0

    @property
    def title(self) -> str:
        """The curve's name as a person reads it, without what is said of transcripts."""
        return self.name.removeprefix("oracle_text of ").replace("_", " ")


class LanguageComparison(Comparison):
    """A paired difference in one test language."""

    language: str


class ByLanguage(_Row):
    """What the results say language by language; empty where all is in one."""

    points: tuple[LanguagePoint, ...] = ()
    comparisons: tuple[LanguageComparison, ...] = ()


class BothWays(_Row):
    """Runs at one share with answers that obey the grammar, and answering freely; the difference is with - without."""

    name: str
    speech_share: FiniteFloat
    num_speech: int
    metric: str
    value: FiniteFloat | None
    free_value: FiniteFloat | None
    free_low: FiniteFloat | None = None
    free_high: FiniteFloat | None = None
    status: dict[str, int] = {}
    free_status: dict[str, int] = {}
    difference: FiniteFloat | None
    low: FiniteFloat | None
    high: FiniteFloat | None
    verdict: Literal["better", "worse", "undecided"]


class Example(_Row):
    """A test utterance to look at; `audio` is a path within the study folder."""

    id: str
    why: str
    runs: tuple[str, ...]
    audio: str | None = None
    reason: str | None = None


class Results(_Row):
    """`results.json`."""

    title: str = "Study"
    question: str = ""
    primary_metric: str | None = None
    pool: dict[str, Any] = {}
    test: dict[str, Any] = {}
    made: dict[str, str] = {}
    metrics: dict[str, dict[str, Any]] = {}
    schemes: dict[str, str] = {}
    selectors: dict[str, str] = {}
    cells: tuple[Cell, ...] = Field(min_length=1)
    references: tuple[Reference, ...]
    comparisons: tuple[Comparison, ...]
    grammar: tuple[BothWays, ...] = ()
    free_comparisons: tuple[Comparison, ...] = ()
    by_language: ByLanguage = ByLanguage()
    curves: tuple[Curve, ...] = ()
    examples: tuple[Example, ...] = ()
