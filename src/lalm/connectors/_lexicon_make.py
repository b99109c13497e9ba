"""Makes the word list of the CTC connector's search, `weights/lexicon-en.json.gz`:

    python -m lalm.connectors._lexicon_make ../shared/data/slurp/lm.txt src/lalm/connectors/weights/lexicon-en.json.gz

Words and their frequencies: the 80,000 most frequent English words of `wordfreq` (data CC BY-SA 4.0), the rarer half only
if they can be spoken (a vowel is in them). Pairs of words: the
sentences of SLURP's lm.txt (CC BY 4.0), pairs seen at least twice, with the start of a sentence as `<s>`. Natural logs.
Pronunciations: the program espeak-ng, in the letters of `_phones.py`.
"""

from __future__ import annotations

import gzip
import itertools
import json
import math
import re
import sys
from collections import Counter
from pathlib import Path

from lalm.connectors._phones import pronunciations
from lalm.connectors._whisper_decoder import plain_words
from lalm.errors import MissingExtraError
from lalm.rundir import atomic

NUM_WORDS = 80_000
NUM_COMMON = 45_000  # of these all are kept, abbreviations too
MIN_COUNT = 2


def make_lexicon(sentences: Path, out: Path) -> None:
    """Write the lexicon, byte for byte the same for the same inputs. Raises MissingExtraError without wordfreq."""
    try:
        from wordfreq import iter_wordlist, word_frequency
    except ImportError:
        raise MissingExtraError("wordfreq", "making a word list", "pip install wordfreq") from None
    words: dict[str, float] = {}
    for word in iter_wordlist("en"):
        if re.fullmatch(r"[a-z]+('[a-z]+)?", word) and (len(words) < NUM_COMMON or re.search("[aeiouy]", word)):
            words[word] = round(math.log(word_frequency(word, "en")), 2)
        if len(words) == NUM_WORDS:
            break
    firsts: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for line in sentences.read_text(encoding="utf-8").splitlines():
        said = ["<s>", *plain_words(line).split()]
        firsts.update(said[:-1])
        pairs.update(itertools.pairwise(said))
    bigrams: dict[str, dict[str, float]] = {}
    for (first, second), count in sorted(pairs.items()):
        if count >= MIN_COUNT and second in words and (first in words or first == "<s>"):
            bigrams.setdefault(first, {})[second] = round(math.log(count / firsts[first]), 2)
    content = {"unigrams": words, "bigrams": bigrams, "pronunciations": pronunciations(list(words))}
    text = json.dumps(content, separators=(",", ":"))
    with atomic(out, "wb") as stream, gzip.GzipFile(fileobj=stream, mode="wb", mtime=0, filename="") as packed:
        packed.write(text.encode())


if __name__ == "__main__":
    make_lexicon(Path(sys.argv[1]), Path(sys.argv[2]))
