"""The data page: what was found in a manifest or corpus, with figures and recordings to listen to, in one file."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path

import soundfile
from markupsafe import Markup

from lalm.data import audio
from lalm.data.findings import CHECKS, KEPT, Clip, Findings, Problem
from lalm.errors import DataError, UserError, many
from lalm.report.data_figures import distributions, labels
from lalm.report.pages import render
from lalm.report.words import duration
from lalm.rundir import write_text

SHOWN = 200  # problems of a check that the page lists
_MOST_CLIPS = 32
_SECONDS = 15.0  # of a recording that are put into the page
_SAMPLE_RATE_HZ = 16_000
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class ShownClip:
    """A recording ready to be shown. `sound` is a data URI; `note` says what is not there."""

    clip: Clip
    sound: str | None
    note: str


@dataclass(frozen=True)
class ShownCheck:
    """A check that found something."""

    name: str
    severity: str
    title: str
    count: int
    problems: list[Problem]
    more: int


def write_data_page(found: Findings, path: Path) -> None:
    """Write the page, whole or not at all. Raises UserError if `path` is a folder."""
    if path.is_dir():
        raise UserError(f"--html: {path} is a folder; name a file.")
    write_text(path, _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", data_page(found)))


def data_page(found: Findings) -> str:
    """The page as text."""
    checks = [_shown(found, name) for name in found.found]
    pictures = [(svg, caption) for svg, caption in ((distributions(found), _LENGTHS), (labels(found), _LABELS)) if svg]
    return render(
        "data.html.j2",
        title=f"Data: {Path(found.source).name}",
        source=found.source,
        headline=_headline(found),
        checks=checks,
        splits=found.splits,
        tiles=_tiles(found),
        facts=_facts(found),
        decoded=found.decoded or not any(one.recordings for one in found.splits.values()),
        pictures=[(Markup(svg), caption) for svg, caption in pictures],
        clips=[_listened(clip) for clip in found.clips[:_MOST_CLIPS]],
        kept=KEPT,
    )


_LENGTHS = "What is far longer than the others stands in the last bar."
_LABELS = "Rows by label. A label that only dev or test shows cannot be learned."


def _headline(found: Findings) -> str:
    errors, warnings = found.number("error"), found.number("warning")
    if not errors and not warnings:
        return "No problems were found."
    what = " and ".join(many(number, word) for number, word in ((errors, "error"), (warnings, "warning")) if number)
    return f"{what}{'; errors must be mended before training.' if errors else '; nothing that stops a training.'}"


def _shown(found: Findings, name: str) -> ShownCheck:
    severity, title = CHECKS[name]
    problems = found.problems[name][:SHOWN]
    return ShownCheck(name, severity, title, found.counts[name], problems, found.counts[name] - len(problems))


def _tiles(found: Findings) -> list[tuple[str, str, str]]:
    splits = found.splits.values()
    rows, recordings = sum(one.rows for one in splits), sum(one.recordings for one in splits)
    speakers = len(set().union(*(one.speakers for one in splits))) if found.splits else 0
    intents = len({name for one in splits for name in one.intents})
    kinds = len({name for one in splits for name in one.slot_types})
    tiles = [
        ("rows", f"{rows:,}", ", ".join(f"{one.rows:,} {name}" for name, one in found.splits.items())),
        ("recordings", f"{recordings:,}", duration(sum(one.seconds for one in splits)) if recordings else "none"),
        ("speakers", f"{speakers:,}", "as far as they are named"),
        ("intents", f"{intents:,}", many(kinds, "slot type")),
    ]
    return tiles if recordings else [one for one in tiles if one[0] != "speakers"]


def _facts(found: Findings) -> list[tuple[str, str]]:
    def listed(values: dict[str, int]) -> str:
        return ", ".join(f"{name} ({number:,})" for name, number in values.items())

    facts = [
        ("languages", listed(dict(found.languages.most_common(20)))),
        ("rows come from", listed(dict(found.sources.most_common()))),
        ("sample rates", listed({f"{rate:,} Hz": number for rate, number in found.sample_rates.most_common(10)})),
        ("channels", listed({str(number): count for number, count in found.channels.most_common(10)})),
    ]
    return [one for one in facts if one[1]]


def _listened(clip: Clip) -> ShownClip:
    """The first seconds of a recording as MP3 (WAV where libsndfile cannot write it), within the page."""
    try:
        samples = audio.load(clip.path, _SAMPLE_RATE_HZ)
    except DataError as error:
        return ShownClip(clip, None, str(error).removeprefix(f"{clip.path}: "))
    note = ""
    if len(samples) > _SECONDS * _SAMPLE_RATE_HZ:
        samples = samples[: int(_SECONDS * _SAMPLE_RATE_HZ)]
        note = f"The first {_SECONDS:g} s of {clip.duration_s:.0f} s."
    for kind, media in (("MP3", "audio/mpeg"), ("WAV", "audio/wav")):
        encoded = io.BytesIO()
        try:
            soundfile.write(encoded, samples, _SAMPLE_RATE_HZ, format=kind)
        except (soundfile.LibsndfileError, ValueError):  # a libsndfile older than 1.1 writes no MP3
            continue
        return ShownClip(clip, f"data:{media};base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}", note)
    return ShownClip(clip, None, "could not be encoded for this page.")
