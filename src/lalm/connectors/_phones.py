"""The sounds that the CTC head writes: 39 phones of English, one letter each, and how words are made of them.

Pronunciations come from the program espeak-ng (General American) when the word list is made; what is shipped is the list.
Sounds that speakers and engines do not keep apart, or that stand for two, are taken together (`_MERGED`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from lalm.errors import MissingExtraError

IPA = {
    "n": "n", "ɪ": "I", "s": "s", "t": "t", "k": "k", "ɹ": "r", "l": "l", "ə": "@", "d": "d", "m": "m", "z": "z",
    "ɛ": "E", "p": "p", "æ": "a", "ɚ": "R", "b": "b", "eɪ": "e", "iː": "i", "f": "f", "ɑː": "A", "oʊ": "o", "ŋ": "N",
    "aɪ": "Y", "v": "v", "ɡ": "g", "uː": "u", "ʃ": "S", "dʒ": "J", "w": "w", "h": "h", "j": "j", "tʃ": "C", "ɔː": "O",
    "aʊ": "W", "θ": "T", "ʊ": "U", "ɔɪ": "y", "ʒ": "Z", "ð": "D",
}  # fmt: skip
_MERGED = {
    "ɾ": "t", "ʔ": "t", "ᵻ": "ɪ", "ɐ": "ə", "ʌ": "ə", "i": "iː", "iə": "iː ə", "əl": "ə l", "ɑːɹ": "ɑː ɹ", "ɔːɹ": "ɔː ɹ",
    "oːɹ": "ɔː ɹ", "oː": "ɔː", "ɔ": "ɑː", "ɛɹ": "ɛ ɹ", "ʊɹ": "ʊ ɹ", "ɪɹ": "ɪ ɹ", "ɜː": "ɚ", "aɪɚ": "aɪ ɚ", "aɪə": "aɪ ə",
    "n̩": "ə n", "x": "k", "r": "ɹ", "ɑ̃": "ɑː", "o": "oʊ", "e": "eɪ", "ç": "h", "ɡʲ": "ɡ", "ɬ": "l", "iːː": "iː", "ææ": "æ",
}  # fmt: skip
BLANK = "<blank>"
VOCABULARY = (BLANK, *IPA.values())
# how little words sound within a sentence; the first is what the head is trained to write
SHORT_FORMS: Mapping[str, tuple[str, ...]] = {
    "a": ("@", "e"), "an": ("@n", "an"), "and": ("and", "@nd", "@n"), "the": ("D@", "Di"), "to": ("tu", "t@"),
    "of": ("@v", "@"), "for": ("fOr", "fR"), "or": ("Or", "R"), "can": ("kan", "k@n"), "you": ("ju", "j@"),
    "your": ("jOr", "jR"), "with": ("wID", "wIT"), "have": ("hav", "@v"), "at": ("at", "@t"), "as": ("az", "@z"),
    "was": ("w@z", "wAz"), "are": ("Ar", "R"), "from": ("fr@m", "frAm"), "i": ("Y",),
}  # fmt: skip


def pronunciations(words: Sequence[str]) -> dict[str, list[str]]:
    """Word -> its pronunciations, the usual one first, by espeak-ng. Raises MissingExtraError without the program."""
    try:
        done = subprocess.run(
            ["espeak-ng", "-q", "--ipa", "--sep=_", "-v", "en-us", "--stdin"],
            input="\n".join(f"{word}." for word in words),
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError:
        raise MissingExtraError("The program espeak-ng", "pronunciations", "apt install espeak-ng") from None
    spoken = done.stdout.strip().split("\n")
    assert len(spoken) == len(words), "espeak-ng gives one line a word"
    return {word: list(SHORT_FORMS.get(word, (letters(sound),))) for word, sound in zip(words, spoken, strict=True)}


def letters(ipa: str) -> str:
    """Phones of what espeak-ng writes (`--sep=_`) of English words."""
    plain = ipa.replace("ˈ", "").replace("ˌ", "").replace(" ", "_")
    sounds = [part for sound in plain.split("_") if sound for part in _MERGED.get(sound, sound).split()]
    return "".join(IPA.get(sound, "") for sound in sounds)
