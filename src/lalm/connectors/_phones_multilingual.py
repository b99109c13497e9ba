"""The sounds of a CTC head for English, French, Spanish and Italian: 56 phones, one letter each.

Sounds that two languages share are one phone; English diphthongs and the pure vowels of the others are kept apart. Length
(Italian double consonants, French vowels) and allophones (Spanish b and its soft form) are not written: the word list knows
them. What a sentence sounds like comes from the program espeak-ng, sentence by sentence, with liaisons and elisions, in the
accent that spoke it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence

from lalm.connectors import _phones
from lalm.errors import MissingExtraError

LANGUAGES = ("en", "fr", "es", "it")
ACCENT = {"en": "en-us", "fr": "fr", "es": "es", "it": "it"}
_ADDED = {
    "a": "ä", "e": "é", "o": "ó", "y": "ü", "ø": "ø", "œ": "œ", "ɑ̃": "ã", "ɔ̃": "õ", "ɛ̃": "ẽ", "ʁ": "ʁ", "ɾ": "ɾ", "r": "ř",
    "ts": "ʦ", "dz": "ʣ", "ɲ": "ɲ", "ʎ": "ʎ", "x": "x",
}  # fmt: skip
VOCABULARY = (*_phones.VOCABULARY, *_ADDED.values())
_SHARED = {  # of French, Spanish and Italian, by sounds of the English table
    "i": "i", "u": "u", "ɛ": "E", "ɔ": "O", "ə": "@", "p": "p", "b": "b", "t": "t", "d": "d", "k": "k", "ɡ": "g", "f": "f",
    "v": "v", "s": "s", "z": "z", "ʃ": "S", "ʒ": "Z", "m": "m", "n": "n", "ŋ": "N", "l": "l", "j": "j", "w": "w", "h": "h",
    "tʃ": "C", "dʒ": "J", "θ": "T", "ð": "d", "β": "b", "ɣ": "g", "ʝ": "j",
}  # fmt: skip
_IPA = _SHARED | _ADDED
_MERGED = {  # diphthongs as two vowels, and the English sounds of borrowed words
    "aʊ": "a u", "aɪ": "a i", "eɪ": "e i", "eʊ": "e u", "oɪ": "o i", "ɔɪ": "ɔ i", "uɪ": "u i", "ɛɪ": "e i", "iə": "i a",
    "aɪə": "a i a", "ʊə": "u a", "eə": "e a", "əʊ": "o", "oʊ": "o", "əl": "ə l", "ɪ": "i", "ʊ": "u", "ʌ": "a", "ɐ": "a",
    "ɑ": "a", "æ": "a", "ɒ": "ɔ", "ɜ": "ə", "ɚ": "ə", "œ̃": "ɛ̃", "ɥ": "y", "ss": "s", "n̩": "n", "ʔ": "", "ɬ": "l",
}  # fmt: skip
_OF_LANGUAGE: Mapping[str, Mapping[str, str]] = {
    "fr": {"ɹ": "ʁ", "r": "ʁ", "ɾ": "ʁ", "θ": "s", "ð": "z"},
    "es": {"ɹ": "ɾ", "ʁ": "ɾ", "v": "b"},
    "it": {"ɹ": "ɾ", "r": "ɾ", "ʁ": "ɾ", "ð": "d"},  # espeak-ng writes one r or the other by position alone
}
_MARKS = re.compile(r"[ˈˌ\u032a\u0361]|\((?:en|fr|es|it)\)")  # stress, diacritics, changes of language
# forms of words within a sentence, beside those alone; French liaisons
_LIAISON = {
    "z": "les des ces mes tes ses nos vos leurs nous vous ils elles très plus dans chez sans sous deux trois six dix aux quels "
    "quelles plusieurs autres",
    "n": "un mon ton son on en bien aucun",
    "t": "est ont sont cet petit grand quand fait tout avait était peut doit vont dit huit sept cent vingt",
}


def letters(ipa: str, language: str) -> str:
    """Phones of what espeak-ng writes (`--sep=_`) of words of a language."""
    if language == "en":
        return _phones.letters(ipa)
    own = _OF_LANGUAGE[language]
    found = []
    for sound in _MARKS.sub("", ipa).replace(" ", "_").split("_"):
        plain = sound.replace("ː", "").replace("-", "")
        for part in _MERGED.get(plain, plain).split():
            found.append(_IPA.get(own.get(part, part), ""))
    return "".join(found)


def sentences(texts: Sequence[str], language: str) -> list[str]:
    """The phones of each text in plain words, as espeak-ng would speak it. Raises MissingExtraError without the program."""
    return [letters(sound, language) for sound in _espeak([f"{text}." for text in texts], ACCENT[language])]


def pronunciations(words: Sequence[str], language: str) -> dict[str, list[str]]:
    """Word -> its pronunciations, the one alone first. Raises MissingExtraError without the program."""
    if language == "en":
        return _phones.pronunciations(words)
    spoken = dict(zip(words, sentences(words, language), strict=True))
    return {word: list(dict.fromkeys([sound, *_also(word, sound, language)])) for word, sound in spoken.items()}


def _also(word: str, sound: str, language: str) -> list[str]:
    if language == "es":  # most of the world's speakers
        return [sound.replace("T", "s").replace("ʎ", "j")]
    if language == "fr":
        return [sound + phone for phone, words in _LIAISON.items() if word in words.split()]
    return []


def _espeak(lines: Sequence[str], accent: str) -> list[str]:
    try:
        done = subprocess.run(
            ["espeak-ng", "-q", "--ipa", "--sep=_", "-v", accent, "--stdin"],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError:
        raise MissingExtraError("The program espeak-ng", "pronunciations", "apt install espeak-ng") from None
    spoken = done.stdout.strip("\n").split("\n") if lines else []
    assert len(spoken) == len(lines), "espeak-ng gives one line a sentence"
    return spoken
