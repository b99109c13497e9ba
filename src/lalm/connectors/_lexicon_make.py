"""Makes the word lists of the CTC connector's search:

    python -m lalm.connectors._lexicon_make src/lalm/connectors/weights/lexicon-en.json.gz --sentences ../shared/data/slurp/lm.txt
    python -m lalm.connectors._lexicon_make weights/gemma/lexicon-fr.json.gz --language fr --pages x/usr/share/help/fr ...

Words and their frequencies: the most frequent words of `wordfreq` (data CC BY-SA 4.0), 80,000 of English, the rarer half only
if they can be spoken (a vowel is in them), 50,000 of other languages. Pairs of words: those seen at least twice in sentences, if
there are any, with the start of a sentence as `<s>`: SLURP's lm.txt (CC BY 4.0) for English, else the translated pages of Debian's
packages that weights/gemma/README.md names, each sentence once. Natural logs. Pronunciations: the
program espeak-ng, in the letters of `_phones.py` (English) or `_phones_multilingual.py`. An article that loses its vowel is a word
of its own, `l'`; the search writes it together with the next.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path

from lalm.connectors import _phones_multilingual
from lalm.connectors._plain import plain_words
from lalm.errors import MissingExtraError
from lalm.rundir import atomic

NUM_WORDS = {"en": 80_000}
NUM_OTHERS = 50_000
NUM_COMMON = 45_000  # of these all are kept, abbreviations too
MIN_COUNT = 2
_PARAGRAPHS = ("p", "li", "td", "th", "dt", "dd", "h1", "h2", "h3", "h4", "title")
_LETTERS = {"en": "a-z", "fr": "a-zàâäçéèêëîïôöùûüœæ", "es": "a-záéíñóúü", "it": "a-zàèéìòù"}
_VOWELS = "aeiouyàâäéèêëîïôöùûüœæáíóúìò"
ELIDED: Mapping[str, Mapping[str, str]] = {
    "fr": {
        "l": "l", "d": "d", "c": "s", "j": "Z", "n": "n", "s": "s", "m": "m", "t": "t", "qu": "k", "jusqu": "Züsk",
        "lorsqu": "lOʁsk", "puisqu": "püisk", "quelqu": "kElk", "aujourd": "óZuʁd",
    },
    "it": {
        "l": "l", "d": "d", "c": "C", "s": "s", "n": "n", "dell": "dél", "all": "äl", "nell": "nél", "sull": "sul",
        "dall": "däl", "quell": "kwél", "quest": "kwést", "dov": "dóv", "com": "kóm", "cos": "kóz", "sant": "sänt",
    },
}  # fmt: skip


class _Paragraphs(HTMLParser):
    """The words of paragraphs, list entries, headings and fields of tables."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._within = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _PARAGRAPHS:
            self._within += 1
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in _PARAGRAPHS:
            self._within = max(0, self._within - 1)
            self.found.append("")

    def handle_data(self, data: str) -> None:
        if self._within:
            self.found[-1] += data


def sentences_of(folder: Path) -> Iterator[str]:
    """The sentences of the pages (`.html`, `.page`) below a folder, files by name."""
    for path in sorted(one for one in folder.rglob("*") if one.suffix in (".html", ".page")):
        parser = _Paragraphs()
        parser.feed(path.read_text(encoding="utf-8", errors="replace"))
        for paragraph in parser.found:
            yield from re.split(r"[.!?:;()\u2026\u00ab\u00bb\u201c\u201d]", paragraph)


def make_lexicon(out: Path, language: str, lines: Iterable[str]) -> None:
    """Write the lexicon, byte for byte the same for the same inputs. Raises MissingExtraError without wordfreq."""
    words = _words(language)
    elided = {f"{word}'": sound for word, sound in ELIDED.get(language, {}).items()}
    unspoken = [word for word in words if word not in elided]
    sounds = _phones_multilingual.pronunciations(unspoken, language) | {
        word: [sound] for word, sound in elided.items() if word in words
    }
    heard = {word: [sound for sound in sounds[word] if sound] for word in words}
    content = {
        "unigrams": {word: log for word, log in words.items() if heard[word]},
        "bigrams": _bigrams(lines, words, language),
        "pronunciations": {word: own for word, own in heard.items() if own},
    }
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=language == "en")
    with atomic(out, "wb") as stream, gzip.GzipFile(fileobj=stream, mode="wb", mtime=0, filename="") as packed:
        packed.write(text.encode())


def _words(language: str) -> dict[str, float]:
    """Words with the natural logs of their frequencies, the most frequent first."""
    try:
        from wordfreq import iter_wordlist, word_frequency
    except ImportError:
        raise MissingExtraError("wordfreq", "making a word list", "pip install wordfreq") from None
    letters = f"[{_LETTERS[language]}]+"
    spoken = re.compile(f"[{_VOWELS}]")
    words: dict[str, float] = {}
    for word in iter_wordlist(language):
        if re.fullmatch(rf"{letters}('{letters})?", word) and (len(words) < NUM_COMMON or spoken.search(word)):
            name = f"{word}'" if word in ELIDED.get(language, {}) else word
            words[name] = round(math.log(word_frequency(word, language)), 2)
        if len(words) == NUM_WORDS.get(language, NUM_OTHERS):
            break
    return words


def _bigrams(lines: Iterable[str], words: Mapping[str, float], language: str) -> dict[str, dict[str, float]]:
    firsts: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    parted = re.compile(rf"\b({'|'.join(ELIDED[language])})'") if language in ELIDED else None
    for line in lines:
        plain = plain_words(line, language)
        said = ["<s>", *(parted.sub(r"\1' ", plain) if parted is not None else plain).split()]
        firsts.update(said[:-1])
        pairs.update(itertools.pairwise(said))
    bigrams: dict[str, dict[str, float]] = {}
    for (first, second), count in sorted(pairs.items()):
        if count >= MIN_COUNT and second in words and (first in words or first == "<s>"):
            bigrams.setdefault(first, {})[second] = round(math.log(count / firsts[first]), 2)
    return bigrams


def main() -> None:
    """Make one word list."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--language", choices=_phones_multilingual.LANGUAGES, default="en")
    parser.add_argument("--sentences", type=Path, help="one sentence a line: pairs of words are counted in them")
    parser.add_argument(
        "--pages", type=Path, nargs="*", default=[], help="folders of pages whose sentences count once each"
    )
    args = parser.parse_args()
    lines = args.sentences.read_text(encoding="utf-8").splitlines() if args.sentences is not None else []
    make_lexicon(
        args.out, args.language, [*lines, *dict.fromkeys(line for one in args.pages for line in sentences_of(one))]
    )


if __name__ == "__main__":
    main()
