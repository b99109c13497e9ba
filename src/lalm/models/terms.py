"""Terms of use that a person accepts once, before the first use of weights that come under them.

What was accepted is noted in `$LALM_HOME/accepted/NAME.json`. On a terminal the whole text is shown and `yes` is asked for;
elsewhere an environment variable accepts it, for every command alike. The text is the one that the package of the weights
carries, pinned by its sha256: other terms in a later package are to be accepted anew.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

from lalm.errors import ModelError
from lalm.models.fetch import fetch, lalm_home, pinned
from lalm.rundir import write_json

_BLOCKS = ("p", "div", "li", "ul", "ol", "h1", "h2", "h3", "h4", "br", "section", "tr")
_UNSEEN = ("script", "style")


@dataclass(frozen=True)
class Terms:
    """Terms `name`, accepted by `variable`=1: the page `file` of the artifact, of which the text from `begin` to `end` is shown.

    `link` is where its authors publish it, and `title` what they call it.
    """

    name: str
    title: str
    covers: str
    link: str
    artifact: str
    file: str
    begin: str
    end: str
    variable: str


GEMMA = Terms(
    name="gemma",
    title="Gemma Terms of Use",
    covers="Gemma 3 270M",
    link="https://ai.google.dev/gemma/terms",
    artifact="gemma-terms",
    file="GEMMA_TERMS.html",
    begin="Last modified:",
    end="Send feedback",
    variable="LALM_ACCEPT_GEMMA_TERMS",
)


def accepted_terms(terms: Terms, say: Callable[[str], None]) -> Path:
    """The page of the terms on this machine, once they are accepted; silent if they are already.

    Raises ModelError where they are not accepted, or cannot be fetched.
    """
    from filelock import FileLock

    folder = lalm_home() / "accepted"
    note, page = folder / f"{terms.name}.json", folder / terms.artifact / terms.file
    (wanted,) = pinned()[terms.artifact].packages[0].members.values()
    if _noted(note) == wanted and page.is_file():
        return page
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{terms.name}.lock"):
            page = fetch(pinned()[terms.artifact], folder, say).files[terms.file]
            if _noted(note) != wanted:
                _accept(terms, page, wanted, note, say)
    except OSError as error:
        raise ModelError(f"What is accepted cannot be noted in {folder}: {error}. Set LALM_HOME elsewhere.") from error
    return page


def _accept(terms: Terms, page: Path, sha256: str, note: Path, say: Callable[[str], None]) -> None:
    how = _accepted(terms, page)
    write_json(
        note,
        {
            "terms": terms.title,
            "link": terms.link,
            "page_sha256": sha256,
            "accepted_by": how,
            "accepted_at": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    say(f"the {terms.title} are accepted ({how}), noted in {note}")


def _noted(note: Path) -> str | None:
    """The sha256 of the page that was accepted."""
    try:
        return str(json.loads(note.read_text(encoding="utf-8"))["page_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _accepted(terms: Terms, page: Path) -> str:
    """How the terms were accepted. Raises ModelError if they were not."""
    if os.environ.get(terms.variable) == "1":
        return f"{terms.variable}=1"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ModelError(
            f"{terms.covers} comes under the {terms.title} ({terms.link}), which nobody has accepted on this machine yet. Read "
            f"them, there or in {page}; then either set {terms.variable}=1, or run the command on a terminal and type yes. "
            f"Once is enough. Without them choose another backbone."
        )
    print(shown(terms, page), file=sys.stderr)
    print(
        f"\n{terms.covers} comes under the {terms.title} above ({terms.link}). Type yes to accept them: ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    if sys.stdin.readline().strip().lower() != "yes":
        raise ModelError(
            f"The {terms.title} were not accepted, so {terms.covers} is not used. Choose another backbone."
        )
    return "yes"


def shown(terms: Terms, page: Path) -> str:
    """The terms as plain text, without the site around them."""
    reader = _Text()
    reader.feed(page.read_text(encoding="utf-8"))
    lines = [" ".join(line.split()) for line in "".join(reader.pieces).splitlines()]
    text = "\n".join(line for line in lines if line)
    begin = text.index(terms.begin)
    return f"{terms.title}\n{text[begin : text.index(terms.end, begin)].strip()}"


class _Text(HTMLParser):
    """Text of a page; blocks stand on lines of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._unseen += tag in _UNSEEN
        self.pieces.append("\n" if tag in _BLOCKS else "")

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in _UNSEEN
        self.pieces.append("\n" if tag in _BLOCKS else "")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.pieces.append(" ".join(data.split("\n")))
