"""`lalm data plan`: which sentences to record next, as a script to read from."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lalm import plugins
from lalm.config import override
from lalm.data.choosing import choose, configured, reasons
from lalm.data.covered import additions, coverage_table
from lalm.data.exporting import read_rows
from lalm.data.labelled import Split
from lalm.data.matching import plain_words
from lalm.data.pace import Pace, pace_of
from lalm.data.script import Line, check_out, write_script
from lalm.data.sources import corpus_rows
from lalm.errors import ConfigError, DataError, many
from lalm.records import Known, Utterance

_AFTERWARDS = " Recordings that are called by their ids become a manifest with: lalm init --text {out} --audio FOLDER"


@dataclass(frozen=True)
class Source:
    """Where sentences come from: a manifest, folder of manifests or recipe, or a corpus and its folder."""

    path: Path | None
    corpus: str | None = None
    root: Path | None = None

    def rows(self, split: Split) -> Iterable[Utterance]:
        """The rows of a split; a row without one is for training."""
        if self.corpus is None:
            if self.path is None or self.root is not None:
                raise ConfigError(
                    "A manifest, a folder of manifests or a recipe is needed, or --corpus NAME --root FOLDER."
                )
            return (row for row in read_rows(self.path) if (row.split or "train") == split)
        if self.root is None:
            raise ConfigError(f"--corpus {self.corpus} needs --root, the folder of the corpus.")
        corpus = plugins.load("corpora", self.corpus)
        return corpus_rows(corpus, self.root, plugins.configure(corpus, {}, "corpus"), (split,))

    def __str__(self) -> str:
        return str(self.path) if self.corpus is None else f"{self.corpus} in {self.root}"


def plan_script(
    source: Source,
    budget: str,
    out: Path,
    selector: str = "coverage",
    assignments: Sequence[str] = (),
    have: Path | None = None,
    split: Split = "train",
) -> str:
    """Write the script of a budget (`50`, `10min`, `5%`) to `out`; what was chosen and what it covers, in words.

    Sentences of the split that nobody recorded are the candidates, each once. `assignments` are the selector's options,
    `have` holds rows that count as recorded, as recordings of the source do. Raises UserError for a budget that cannot
    be met, options that are none, and rows that cannot be used.
    """
    check_out(out)
    amount, unit = _budget(budget)
    module, cfg = configured(selector, override({}, assignments), 0, selector)
    rows = list(source.rows(split))
    had = list(read_rows(have, allow_outside=True)) if have is not None else []
    recorded = [*(row for row in rows if row.audio is not None and row.source == "recorded"), *had]
    written = [row for row in rows if row.text]
    candidates, num_done, num_twofold = _candidates(written, recorded)
    if not candidates:
        raise DataError(
            f"{source}: no sentence of the split '{split}' is left to record ({num_done} are recorded already)."
        )
    known = Known(tuple(recorded), tuple(written))
    pace = pace_of([*rows, *had])
    number = _number(amount, unit, len(candidates))
    chosen = choose(module, cfg, candidates, number, known)
    if unit == "min":
        chosen = _within(chosen, 60 * amount, pace)
    why = reasons(module, cfg, candidates, chosen, known) or additions(chosen, recorded)
    lines = [
        Line(i, row, round(pace.seconds(row), 1), said)
        for i, (row, said) in enumerate(zip(chosen, why, strict=True), 1)
    ]
    minutes = sum(line.estimate_s for line in lines) / 60
    summary = f"{many(len(lines), 'sentence')} of {len(candidates)}, chosen by {selector}: about {minutes:.1f} minutes, {pace}."
    write_script(out, lines, summary)
    return "\n".join(
        [
            f"{source}: {many(len(candidates), 'sentence')} to choose from, each once; {num_done} are recorded already."
            + (f" {num_twofold} stand there with several labels; the first one counts." if num_twofold else ""),
            summary,
            f"Covered, with {many(len(recorded), 'row')} that count as recorded:" if recorded else "Covered:",
            *coverage_table(chosen, recorded, candidates),
            f"Wrote {out}." + ("" if out.suffix.lower() == ".md" else _AFTERWARDS.format(out=out)),
        ]
    )


def _budget(text: str) -> tuple[float, str]:
    """The amount and its unit: `` (sentences), `min` or `%`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%|min|)", text.strip())
    amount = float(found[1]) if found else 0.0
    if found is None or amount <= 0 or (not found[2] and not amount.is_integer()) or (found[2] == "%" and amount > 100):
        raise ConfigError(
            f"--budget {text}: sentences (50), minutes (10min) or a share of the sentences (5%), above 0, are needed."
        )
    return amount, found[2]


def _number(amount: float, unit: str, of: int) -> int:
    """How many sentences a selector is asked for: all of them if minutes decide."""
    if unit == "min":
        return of
    number = int(amount) if not unit else math.floor(amount / 100 * of + 0.5)
    if number > of:
        raise DataError(f"--budget {number}: there are {of} sentences to choose from.")
    if not number:
        raise DataError(f"--budget {amount:g}%: of {of} sentences that is less than half a sentence.")
    return number


def _candidates(written: Sequence[Utterance], recorded: Sequence[Utterance]) -> tuple[list[Utterance], int, int]:
    """The sentences that nobody recorded, each once; how many are recorded; how many stand there with several labels."""
    done = {(row.language, plain_words(row.text)) for row in recorded if row.text}
    first: dict[tuple[str, str], Utterance] = {}
    twofold = set()
    for row in written:
        key = (row.language, plain_words(row.text or ""))
        if first.setdefault(key, row).frame != row.frame:
            twofold.add(key)
    left = [row for key, row in first.items() if key not in done and key[1]]
    return left, len(first.keys() & done), len(twofold - done)


def _within(rows: Sequence[Utterance], seconds: float, pace: Pace) -> list[Utterance]:
    """The first rows, as far as the seconds reach."""
    ends = itertools.accumulate(pace.seconds(row) for row in rows)
    found = [row for row, end in zip(rows, ends, strict=True) if end <= seconds]
    if not found:
        raise DataError(
            f"--budget: {seconds / 60:g} minutes are shorter than the first sentence ({pace.seconds(rows[0]):.1f} s)."
        )
    return found
