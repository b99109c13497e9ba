"""Plain words: lower case, no punctuation, numbers as words, as the connectors write what they hear."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from lalm.connectors import _numbers
from lalm.languages import heard_by_whisper, lower_case, only_words, whisper_code

ROW = "row"  # the option `language` for: that of each row
_PERCENT = {"en": "percent", "fr": "pour cent", "es": "por ciento", "it": "per cento"}
_AND = {"en": "and", "fr": "et", "es": "y", "it": "e"}


def _code(value: str) -> str:
    return value if value == ROW else whisper_code(value)


def expected(option: str, language: str) -> str:
    """What the option `language` comes to for rows of a language: of those that Whisper does not know, `row` stays."""
    return whisper_code(language) if option == ROW and heard_by_whisper(language) else option


def told(option: str) -> str | None:
    """What Whisper's decoder is told to expect; None: it hears itself which language it is."""
    return None if option == ROW else option


RowLanguage = Annotated[str, AfterValidator(_code)]  # of an option: a language that Whisper knows, or `row`


def plain_words(text: str, language: str = "en") -> str:
    """Lower case, no punctuation, numbers below ten thousand as words: how commands are written in label files.

    In languages whose numbers are not known here (`_numbers.LANGUAGES`) digits stay as they are.
    """
    text = re.sub(r"(?<=\d),(?=\d{3})", "", lower_case(text, language))
    if language in _numbers.LANGUAGES:
        text = re.sub(r"\d+", lambda match: f" {_numbers.spoken_number(match.group(), language)} ", text)
        text = text.replace("%", f" {_PERCENT[language]} ").replace("&", f" {_AND[language]} ")
    text = text.replace("\u2019", "'")
    return only_words(text)
