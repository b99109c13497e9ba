"""Texts as error rates see them: normalised or as they were written, in the units of their language.

Normalised is what Whisper's evaluation calls its basic normaliser (Radford et al. 2022, appendix C), with these differences:
marks stay (they are the vowels of Devanagari and Thai), numbers and spellings are not unified, and each language's own rules
are few and listed here. Orthographic is the text as it stands, case and punctuation included, as the End-to-end Speech Benchmark
scores it (Gandhi et al. 2022, arXiv 2210.13352): what a normaliser forgives is a fault to somebody who reads the transcript.
"""

from __future__ import annotations

import re
import unicodedata

from lalm.languages import UNSPACED, lower_case, only_words

_APOSTROPHES = re.compile("[\u2018\u2019\u02bc\u0060\u00b4]")
_ELIDING = frozenset({"fr", "it", "ca", "oc"})  # l'heure: an article and a word
_OPTIONAL = {  # points and lengthening that writers may leave out
    "ar": re.compile("[\u0640\u064b-\u0652\u0670]"),
    "fa": re.compile("[\u0640\u064b-\u0652\u0670]"),
    "ur": re.compile("[\u0640\u064b-\u0652\u0670]"),
    "he": re.compile("[\u0591-\u05bd\u05bf-\u05c7]"),
}


def normalised(text: str, language: str) -> str:
    """Lower case, one form of each character, punctuation and symbols aside, single blanks.

    Apostrophes stay within words, but where they stand for a blank.
    """
    text = unicodedata.normalize("NFKC", text)
    text = _OPTIONAL[language].sub("", text) if language in _OPTIONAL else text
    plain = only_words(_APOSTROPHES.sub("'", lower_case(text, language)))
    plain = plain.replace("'", " ") if language in _ELIDING else plain
    return " ".join(filter(None, (word.strip("'") for word in plain.split())))  # at its ends they are quotes


def orthographic(text: str) -> str:
    """The text as it stands, in composed characters with single blanks."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def units(text: str, language: str) -> list[str]:
    """Words; characters in languages whose writing sets no blanks between words."""
    return characters(text, language) if language in UNSPACED else text.split()


def characters(text: str, language: str) -> list[str]:
    """Characters, single blanks between words included; without blanks where writing sets none between words."""
    return list(text.replace(" ", "") if language in UNSPACED else text)
