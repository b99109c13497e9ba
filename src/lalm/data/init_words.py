"""What `lalm init` understood, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from lalm.data.labelled import LabelledFile
from lalm.data.matching import Matches, plain_words
from lalm.errors import many
from lalm.records import Utterance

_USES = {
    "id": "names of rows",
    "text": "sentences",
    "audio": "recordings",
    "intent": "intents",
    "slots": "slots",
    "language": "languages",
    "speaker": "speakers",
    "split": "split",
    "duration_s": "lengths (taken from the files instead)",
}


def describe(
    sentences: LabelledFile,
    matches: Matches,
    rows: Sequence[Utterance],
    unreadable: Sequence[str],
    folder: Path | None,
    one_speaker: str | None,
    outside: bool,
    out: Path,
) -> str:
    """The page that `lalm init` prints."""
    recorded = [row for row in rows if row.audio is not None]
    lines = [f"Read {sentences.path} ({sentences.how}): {many(len(sentences.rows), 'row')}."]
    lines += [*_columns(sentences), *_labels(sentences, rows)]
    if folder is not None or recorded:
        where = folder if folder is not None else "the recordings that it names"
        lines += ["", f"Read {where}: {_amount(recorded)}.", *(f"  {one}." for one in matches.said)]
        lines += _left_out(matches, unreadable)
        lines += _splits(rows, one_speaker)
    else:
        tested = sum(row.split == "test" for row in rows)
        tests = (
            f"the test set is {many(tested, 'sentence')} in writing" if tested else "there is nothing yet to test on"
        )
        lines += ["", f"No recordings: the recipe trains on text alone, and {tests}."]
    lines += ["", f"Wrote {out / 'manifest.jsonl'} ({many(len(rows), 'row')}) and {out / 'recipe.yaml'}."]
    if outside:
        lines.append(
            "Recordings lie outside that folder and are read where they are; the recipe says so (allow_outside_paths)."
        )
    lines.append(f"Next: lalm check {out / 'recipe.yaml'}, then lalm train {out / 'recipe.yaml'}.")
    return "\n".join(lines)


def _columns(file: LabelledFile) -> list[str]:
    columns = file.columns

    def because(name: str) -> str:
        return f" ({columns.why[name]})" if name in columns.why else ""

    lines = [f"  {_USES[use]}: column '{name}'{because(name)}" for use, name in columns.of.items()]
    lines += [f"  slot type '{kind}': column '{name}'{because(name)}" for name, kind in columns.slot_types.items()]
    if columns.left_over:
        lines.append(f"  kept in meta, not used: {_list(columns.left_over)}")
    return lines


def _labels(sentences: LabelledFile, rows: Sequence[Utterance]) -> list[str]:
    num_texts = sum(row.text is not None for row in sentences.rows)
    intents = Counter(row.frame.intent for row in rows if row.frame.intent)
    slots = Counter(slot.type for row in rows for slot in row.frame.slots)
    unlabelled = [row.id for row in rows if not row.frame.intent and not row.frame.slots]
    lines = [f"{many(num_texts, 'sentence')}, {many(len(intents), 'intent')}, {many(len(slots), 'slot type')}."]
    lines += [f"  intents: {_counts(intents)}"] if intents else []
    lines += [f"  slot types: {_counts(slots)}"] if slots else []
    if unlabelled:
        lines.append(
            f"  {many(len(unlabelled), 'row')} with neither intent nor slots, which teaches just that: {_list(unlabelled)}"
        )
    return lines


def _left_out(matches: Matches, unreadable: Sequence[str]) -> list[str]:
    lines = []
    if matches.unlabelled:
        lines.append(
            f"  {many(len(matches.unlabelled), 'recording')} without a label, left out: {_list(matches.unlabelled)}"
        )
    if matches.not_there:
        lines.append(
            f"  {many(len(matches.not_there), 'row')} with a recording that is not there: {_list(matches.not_there)}"
        )
    if matches.not_known:
        lines.append(
            f"  {many(len(matches.not_known), 'row')} with a sentence that has no label: {_list(matches.not_known)}"
        )
    if unreadable:
        lines.append(f"  {many(len(unreadable), 'recording')} that cannot be read, left out:")
        lines += [f"    {reason}" for reason in unreadable[:5]]
        lines += [f"    and {len(unreadable) - 5} more"] if len(unreadable) > 5 else []
    if matches.not_read:
        lines.append(
            f"  {many(len(matches.not_read), 'file')} in formats that are not read (allowed: WAV, FLAC, OGG, MP3): "
            f"{_list(matches.not_read)}"
        )
    return lines


def _splits(rows: Sequence[Utterance], one_speaker: str | None) -> list[str]:
    recorded = [row for row in rows if row.audio is not None]
    lines = []
    for split, name in (("train", "Pool for training"), ("dev", "Development set"), ("test", "Test set")):
        part = [row for row in recorded if row.split == split]
        if part or split != "dev":
            lines.append(f"{name}: {_amount(part)}{_speakers(part)}.")
    test = [row for row in recorded if row.split == "test"]
    if not test:
        lines.append(
            "Without test recordings a run can be trained, not judged. Record some more, or mark some in a column 'split'."
        )
    if one_speaker is not None:
        lines.append(
            f"Only one speaker is named ('{one_speaker}') and is heard in training and test: the test says how this voice is "
            "understood, not how others are. The name was moved to meta."
        )
    elif any(row.speaker for row in recorded):
        lines.append("No speaker is in both.")
    written = {plain_words(row.text) for row in rows if row.text and row.split == "train"}
    known = sum(row.text is not None and plain_words(row.text) in written for row in test)
    if known:
        lines.append(f"{known} of the {len(test)} test recordings say a sentence that is also training text.")
    return lines


def _amount(rows: Sequence[Utterance]) -> str:
    speakers = {row.speaker for row in rows if row.speaker}
    seconds = sum(row.duration_s or 0.0 for row in rows)
    known = f" by {many(len(speakers), 'speaker')}" if speakers else ""
    return f"{many(len(rows), 'recording')}{known}, " + (
        f"{seconds / 60:.1f} minutes" if seconds >= 90 else f"{seconds:.0f} s"
    )


def _speakers(rows: Sequence[Utterance]) -> str:
    names = sorted({row.speaker for row in rows if row.speaker})
    return f" ({_list(names)})" if names else ""


def _counts(counter: Counter[str]) -> str:
    return _list([f"{name} {number}" for name, number in counter.most_common()], 8)


def _list(items: Iterable[object], shown: int = 3) -> str:
    names = [str(item) for item in items]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
