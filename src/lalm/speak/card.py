"""What was spoken, in words: the lines that `lalm data synth` prints, and the data card beside spoken dialogues."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from lalm import plugins
from lalm.errors import many
from lalm.records import Role, Turn, Utterance
from lalm.speak.dialogues import ROLES, passage_of
from lalm.speak.engines import licence_of
from lalm.speak.manner import Manner, Range

CARD = "README.md"
SPLITS = ("train", "dev", "test")


def said(done: Sequence[Utterance], left_out: int, kept: int, out: Path) -> str:
    """Rows, minutes, voices and licences, for a person."""
    minutes = sum(_length_s(row) for row in done) / 60
    lines = [f"Spoke {many(len(done), 'row')}, {minutes:.1f} minutes; {many(kept, 'clip')} were there already."]
    for split in sorted({str(row.split) for row in done}):
        own = [row for row in done if row.split == split]
        voices = Counter(voice for row in own for voice in _voices(row))
        shown = [f"{voice} {number}" for voice, number in voices.most_common(8)]
        more = f" and {len(voices) - 8} more" if len(voices) > 8 else ""
        lines.append(f"  {split}: {many(len(own), 'row')} by {many(len(voices), 'voice')}: {', '.join(shown)}{more}")
    lines += [f"  licence of {engine}: {licence}" for engine, licence in _licences(done)]
    if left_out:
        lines.append(f"  left out: {many(left_out, 'row')} with a recording, or without words")
    use = "In a recipe: data.synthetic, and scheme.synthetic_passes above 0."
    if any(row.turns for row in done):
        use = f"{CARD} says what is in it. In a recipe: data.root, with the corpus that it was made from, or jsonl."
    lines.append(f"Wrote {out / 'manifest.jsonl'}. {use}")
    return "\n".join(lines)


def card(done: Sequence[Utterance], manner: Manner, licence: str | None) -> str:
    """The data card of spoken dialogues, as Markdown: counts, hours, voices, licences. `licence` is that of the text."""
    rows = [row for row in done if row.turns]
    parts = [
        "# Spoken dialogues",
        "Made by `lalm data synth`. Every turn is spoken by speech synthesis, and so is what the user may reply when asked back: "
        "16 kHz, mono, FLAC. Narrator, user and assistant have different voices, the same ones in all dialogues about a passage. "
        "No voice of one split is heard in another. Synthetic voices are not people: what is measured here says how methods "
        "compare, not how well they would do with real speakers.",
        _table(
            [
                "split",
                "dialogues",
                "ambiguous",
                "passages",
                "turns",
                "replies",
                "recordings",
                "hours of recordings",
                "hours heard",
            ],
            [_counts(split, own) for split, own in _by_split(rows)],
        ),
        "Dialogues about one passage share recordings: *hours of recordings* counts each once, *hours heard* each time that it is a "
        "turn of a dialogue, without the replies.",
        "## Voices",
        _table(["split", "role", "voice", "recordings", "minutes"], _voice_rows(rows)),
        "## How it was made",
        "\n".join(_settings(manner)),
        "## Licences",
        "\n".join(
            [
                f"- text: {licence or 'as stated by its owner'}",
                *(f"- speech of {engine}: {text}" for engine, text in _licences(rows)),
            ]
        ),
        "## Layout",
        "`manifest.jsonl` holds a dialogue a line, with text, recording and length of each turn; `meta` names voices, speed, pitch, "
        "room and licence, and in `text_id` the row that was spoken. `audio/` holds the recordings, named by a hash of all that is "
        "heard in them.",
    ]
    return "\n\n".join(parts) + "\n"


def _counts(split: str, rows: Sequence[Utterance]) -> list[str]:
    turns = [turn for row in rows for turn in row.turns]
    replies = [turn for row in rows for turn in _replies(row)]
    lengths_s = {turn.audio: turn.duration_s or 0.0 for turn in (*turns, *replies)}
    numbers = [
        len(rows),
        sum(row.clarification is not None for row in rows),
        len({passage_of(row) for row in rows}),
        len(turns),
        len(replies),
        len(lengths_s),
    ]
    hours = [sum(lengths_s.values()) / 3600, sum(turn.duration_s or 0.0 for turn in turns) / 3600]
    return [split, *(f"{number:,}" for number in numbers), *(f"{value:.2f}" for value in hours)]


def _voice_rows(rows: Sequence[Utterance]) -> list[list[str]]:
    result = []
    for split, own in _by_split(rows):
        found: dict[tuple[Role, str], dict[Path | None, float]] = defaultdict(dict)
        for row in own:
            for turn in (*row.turns, *_replies(row)):
                found[turn.role, row.meta["voices"][turn.role]][turn.audio] = turn.duration_s or 0.0
        for role, voice in sorted(found, key=lambda one: (ROLES.index(one[0]), one[1])):
            lengths_s = found[role, voice]
            result.append([split, role, f"`{voice}`", f"{len(lengths_s):,}", f"{sum(lengths_s.values()) / 60:.1f}"])
    return result


def _settings(manner: Manner) -> list[str]:
    drawn = [("speed", manner.speed), ("pitch", manner.pitch), ("reverberation time in seconds", manner.room_s)]
    lines = [f"- {name}: {_range(limits)}" for name, limits in drawn if limits is not None]
    engines = [f"{name} (for {manner.only[name]} alone)" if name in manner.only else name for name in manner.engines]
    return [f"- engines: {', '.join(engines)}", *lines, f"- copies: {manner.copies}", f"- seed: {manner.seed}"]


def _range(limits: Range) -> str:
    low, high = limits
    return f"{low:g}" if low == high else f"{low:g} to {high:g}, drawn for each speaker of a passage"


def _by_split(rows: Iterable[Utterance]) -> list[tuple[str, list[Utterance]]]:
    found: dict[str, list[Utterance]] = defaultdict(list)
    for row in rows:
        found[str(row.split)].append(row)
    return [(split, found[split]) for split in SPLITS if split in found]


def _replies(row: Utterance) -> list[Turn]:
    return [turn for turn, _ in row.clarification.replies] if row.clarification is not None else []


def _voices(row: Utterance) -> list[str]:
    return sorted(row.meta["voices"].values()) if row.turns else [str(row.speaker)]


def _licences(rows: Iterable[Utterance]) -> list[tuple[str, str]]:
    """Engines that are heard, and what they say of their licence."""
    engines = {voice.partition("/")[0] for row in rows for voice in _voices(row)}
    return [(engine, licence_of(plugins.load("synth", engine))) for engine in sorted(engines)]


def _length_s(row: Utterance) -> float:
    return sum(turn.duration_s or 0.0 for turn in row.turns) if row.turns else row.duration_s or 0.0


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
