"""What sentences bring along that can be counted: words, intents, slot types, slot values; what is new, and what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from lalm.data.matching import plain_words
from lalm.records import Utterance

KINDS = ("intent", "slot type", "slot value", "word")
SHOWN = 6  # names listed of each kind


def spoken_words(row: Utterance) -> list[str]:
    """The words of a sentence, without case and punctuation; of a row without one those of its slot values."""
    return plain_words(row.text or " ".join(slot.value for slot in row.frame.slots)).split()


def parts(row: Utterance) -> dict[str, list[str]]:
    """What a row brings along, a list for each of KINDS, each name once and in the order of the sentence."""
    return {
        "intent": [row.frame.intent] if row.frame.intent else [],
        "slot type": list(dict.fromkeys(slot.type for slot in row.frame.slots)),
        "slot value": list(dict.fromkeys(f"{slot.type} {slot.value}" for slot in row.frame.slots)),
        "word": list(dict.fromkeys(spoken_words(row))),
    }


def additions(rows: Sequence[Utterance], recorded: Iterable[Utterance] = ()) -> list[str]:
    """What each row adds to those recorded and to those before it, in words: `first of intent ...; new words: ...`."""
    seen: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for row in recorded:
        for kind, names in parts(row).items():
            seen[kind].update(names)
    result = []
    for row in rows:
        new = {kind: [name for name in names if name not in seen[kind]] for kind, names in parts(row).items()}
        for kind, names in new.items():
            seen[kind].update(names)
        result.append(_in_words(row, new))
    return result


def _in_words(row: Utterance, new: dict[str, list[str]]) -> str:
    said = [f"first of intent {name}" for name in new["intent"]]
    said += [f"first with slot {name}" for name in new["slot type"]]
    for kind in ("slot value", "word"):
        if new[kind]:
            said.append(f"new {kind}{'s' if len(new[kind]) > 1 else ''}: {listed(new[kind])}")
    more = f"one more of intent {row.frame.intent}" if row.frame.intent else "one more sentence"
    return "; ".join(said) or f"{more}, nothing new in it"


def listed(names: Sequence[str]) -> str:
    """`a, b, c and 4 more`."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def coverage_table(
    chosen: Sequence[Utterance], recorded: Sequence[Utterance], candidates: Sequence[Utterance]
) -> list[str]:
    """A line for each kind that is there: how many names are covered, of how many, and which are not, frequent ones first."""
    lines = []
    for kind in KINDS:
        times: Counter[str] = Counter()
        for row in [*candidates, *recorded]:
            times.update(parts(row)[kind])
        covered = {name for row in [*chosen, *recorded] for name in parts(row)[kind]}
        left = sorted(times.keys() - covered, key=lambda name: (-times[name], name))
        if times:
            missing = f"not covered: {listed(left)}" if left else "all covered"
            lines.append(f"  {kind + 's':<12} {len(covered):>6} of {len(times):>6}  {missing}")
    return lines
