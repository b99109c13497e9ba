"""The errors that are a person's to mend. The command line prints them as one paragraph and exits with 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """A mistake the user can mend: says what, where, the value, what is allowed and what is nearest."""


class ConfigError(UserError):
    """A recipe, study or option that cannot be right."""


class DataError(UserError):
    """Rows or files that cannot be used. `problems` lists every one of them, not the first alone."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        shown = "".join(f"\n  - {problem}" for problem in self.problems[:20])
        more = len(self.problems) - 20
        super().__init__(message + shown + (f"\n  - and {more} more" if more > 0 else ""))


class ModelError(UserError):
    """Weights, folders or model options that cannot be used."""


class MissingExtraError(UserError):
    """An optional package or program is needed and missing."""

    def __init__(self, what: str, needed_for: str, install: str) -> None:
        super().__init__(f"{what} is needed for {needed_for} and is not installed. Install it with: {install}")

    def __reduce__(self) -> tuple[type[UserError], tuple[str]]:
        """Between processes the message travels; the three parts that it is made of do not."""
        return UserError, (str(self),)


def many(number: int, what: str) -> str:
    """`1 row`, `2 rows`, `2 replies`."""
    if number == 1:
        return f"1 {what}"
    ends_in_ies = what.endswith("y") and what[-2:-1] not in "aeiou"
    return f"{number} {what[:-1]}ies" if ends_in_ies else f"{number} {what}s"


LISTED = 60


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A closing phrase that names the nearest allowed value and lists the allowed: ` Did you mean 'lora'? ...`.

    Of more than LISTED values the first are named and the number of all.
    """
    options = sorted(str(option) for option in allowed)
    close = difflib.get_close_matches(str(name), options, n=1, cutoff=0.6)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    more = f" and more, {len(options)} in all" if len(options) > LISTED else ""
    return f"{hint} Allowed: {', '.join(options[:LISTED]) if options else '(none)'}{more}."
