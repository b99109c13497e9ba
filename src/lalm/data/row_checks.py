"""Checks that need one row alone: its label, its slots, its recording."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from lalm.data import audio
from lalm.data.cache import version
from lalm.data.dialogue import is_labelled
from lalm.data.ontology import Ontology
from lalm.errors import DataError
from lalm.languages import only_words
from lalm.records import Utterance

WANTED_RATE_HZ = 16_000
SHORTEST_S, LONGEST_S = 0.2, 30.0  # Whisper's encoder and its kin hear thirty seconds
SILENT_DB = -50.0
_CLIPPED_SHARE, _CLIPPED_RUN = 0.0005, 3
_NEVER_SAID = {"yes", "no", "unknown", "none"}


@dataclass(frozen=True)
class Found:
    """A problem of a row that is at hand: the check, the field, its value, and what is wrong."""

    check: str
    field: str
    value: str
    message: str


@dataclass(frozen=True)
class Sound:
    """What a recording's header says, and with decoding its peak in dB under full scale (None: nothing but zeros)."""

    info: audio.AudioInfo
    peak_db: float | None = None
    decoded: bool = False


def plain(text: str) -> str:
    """Words alone: lower case, no punctuation, single blanks, so that two spellings of a sentence are one."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return only_words(text.casefold(), kept="")


def check_label(row: Utterance, words: str, ontology: Ontology | None) -> Iterator[Found]:
    """Is there a label, does the ontology allow it, are slots said in the sentence whose plain words are `words`."""
    frame = row.frame
    if not is_labelled(row):
        yield Found("label_missing", "intent", "null", "has neither an intent nor slots.")
    if ontology is not None:
        yield from _forbidden(row, ontology)
    if row.turns:
        yield from _unsaid(row)
    if not words:
        return
    joined = words.replace(" ", "")
    for index, slot in enumerate(frame.slots):
        value = plain(slot.value)
        if value not in words and value.replace(" ", "") not in joined:
            name = f"slots[{index}].value"
            yield Found("slot_unsaid", name, slot.value, f"{slot.type} {slot.value!r} is not said in {row.text!r}.")


def _unsaid(row: Utterance) -> Iterator[Found]:
    """Answers of which not one is said in the turns or stands beside them, where all of that is known in words."""
    if not row.answers or not all(turn.text for turn in row.turns):
        return
    said = plain(" ".join([row.context or "", *(turn.text or "" for turn in row.turns)])).replace(" ", "")
    answers = [plain(answer) for answer in row.answers]
    if not any(answer.replace(" ", "") in said or answer in _NEVER_SAID for answer in answers):
        shown = " or ".join(map(repr, row.answers[:3]))
        yield Found("answer_unsaid", "answers", row.answers[0], f"{shown} is said in none of the turns.")


def _forbidden(row: Utterance, ontology: Ontology) -> Iterator[Found]:
    intent = row.frame.intent
    if intent is not None and ontology.intents and intent not in ontology.intents:
        hint = meant(intent, tuple(ontology.intents))
        yield Found("label_forbidden", "intent", intent, f"the ontology has no intent {intent!r}.{hint}")
    for index, slot in enumerate(row.frame.slots):
        known = ontology.slots.get(slot.type)
        if known is None:
            hint = meant(slot.type, tuple(ontology.slots))
            name = f"slots[{index}].type"
            yield Found("label_forbidden", name, slot.type, f"the ontology has no slot type {slot.type!r}.{hint}")
        elif not known.allows(slot.value):
            name, hint = f"slots[{index}].value", meant(slot.value, (*known.values, *known.synonyms))
            yield Found(
                "label_forbidden", name, slot.value, f"{slot.type} cannot be {slot.value!r}, its list is closed.{hint}"
            )


@lru_cache(maxsize=10_000)
def meant(name: str, options: tuple[str, ...]) -> str:
    """` Did you mean 'heat'?`, or nothing if no option is near."""
    close = difflib.get_close_matches(name, options, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_sound(
    path: Path, stated_s: float | None, decode: bool, longest_s: float = LONGEST_S
) -> tuple[Sound | None, tuple[Found, ...]]:
    """What a recording is, and what is wrong with it alone. Remembered, since the questions about a passage share it."""
    return _checked(path, version(path), stated_s, decode, longest_s)


@lru_cache(maxsize=256)
def _checked(
    path: Path, _: object, stated_s: float | None, decode: bool, longest_s: float
) -> tuple[Sound | None, tuple[Found, ...]]:
    sound, found = _check_sound(path, stated_s, decode, longest_s)
    return sound, tuple(found)


def _check_sound(
    path: Path, stated_s: float | None, decode: bool, longest_s: float
) -> tuple[Sound | None, list[Found]]:
    name = str(path)
    if not audio.is_file(path):
        return None, [Found("audio_missing", "audio", name, f"{path}: there is no such file.")]
    try:
        info = audio.info(path)
        samples = audio.decode(path)[0] if decode else None
    except DataError as error:
        return None, [Found("audio_unreadable", "audio", name, str(error))]
    except OSError as error:
        return None, [Found("audio_unreadable", "audio", name, f"{path}: cannot be read ({error.strerror}).")]
    found = list(_header(path, info, stated_s, longest_s))
    if samples is None:
        return Sound(info), found
    bad = int((~np.isfinite(samples)).sum())
    if bad:
        message = f"{path}: holds NaN or infinite samples, {bad} of {samples.size}."
        return Sound(info, None, True), [*found, Found("audio_nan", "audio", name, message)]
    peak = float(np.abs(samples).max())
    peak_db = 20 * float(np.log10(peak)) if peak > 0 else None
    if peak_db is None or peak_db < SILENT_DB:
        level = "holds nothing but zeros" if peak_db is None else f"peaks at {peak_db:.0f} dB"
        found.append(Found("audio_silent", "audio", name, f"{path}: {level}; nothing is heard in it."))
    share = clipped_share(samples, peak)
    if share > _CLIPPED_SHARE:
        message = f"{path}: {100 * share:.2g} % of its samples stand at the peak in runs; it was recorded too loud."
        found.append(Found("audio_clipped", "audio", name, message))
    return Sound(info, peak_db, True), found


def clipped_share(samples: np.ndarray, peak: float) -> float:
    """The share of samples [num_samples, channels] that stand at the peak, three and more in a row, where it is loud."""
    if peak < 0.5:
        return 0.0
    count = 0
    for channel in samples.T:
        for sign in (1, -1):
            high = np.concatenate(([0], (sign * channel >= 0.9999 * peak).view(np.int8), [0]))
            edges = np.flatnonzero(np.diff(high))
            lengths = edges[1::2] - edges[::2]
            count += int(lengths[lengths >= _CLIPPED_RUN].sum())
    return count / samples.size


def _header(path: Path, info: audio.AudioInfo, stated_s: float | None, longest_s: float) -> Iterator[Found]:
    seconds = info.duration_s
    if stated_s is not None and abs(stated_s - seconds) > max(0.1, 0.02 * seconds):
        message = f"is {stated_s:g}, the file lasts {seconds:.2f} s."
        yield Found("duration_stated", "duration_s", f"{stated_s:g}", message)
    if seconds < SHORTEST_S or seconds > longest_s:
        what = "nobody says a sentence so fast" if seconds < SHORTEST_S else "many encoders hear no more than 30 s"
        yield Found("duration_odd", "audio", f"{seconds:.2f}", f"{path}: lasts {seconds:.2f} s; {what}.")
    if info.sample_rate_hz < WANTED_RATE_HZ:
        rate = info.sample_rate_hz
        message = f"{path}: has {rate:,} Hz, so there is no sound above {rate // 2:,} Hz; models are used to {WANTED_RATE_HZ:,} Hz."
        yield Found("sample_rate", "audio", str(rate), message)
    if info.num_channels != 1:
        message = f"{path}: has {info.num_channels} channels; their mean is used."
        yield Found("channels", "audio", str(info.num_channels), message)
