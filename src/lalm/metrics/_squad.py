"""SQuAD's comparison of answers (Rajpurkar et al. 2016, section 6.1, and the evaluation script of version 1.1).

Both answers are put into lower case, without ASCII punctuation, without the articles `a`, `an` and `the`, with single
blanks. What is compared then is the whole (exact match) or the bag of words (F1). Of several right answers the one that
gives most counts. As in the script of version 1.1, two answers of which no word is left match exactly and have an F1 of 0.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from lalm.records import Reading

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normal(answer: str) -> str:
    """The answer as it is compared."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split())


def exact(right: str, given: str) -> float:
    """1 if nothing but case, punctuation, articles and blanks is different, else 0."""
    return float(normal(right) == normal(given))


def f1(right: str, given: str) -> float:
    """Harmonic mean of the shares of words that both have in common, each word as often as it stands there."""
    wanted, found = normal(right).split(), normal(given).split()
    common = (Counter(wanted) & Counter(found)).total()
    return 2 * common / (len(wanted) + len(found)) if common else 0.0


def answers(reference: Reading, hypothesis: Reading) -> tuple[Sequence[str], str] | None:
    """All right answers and the one that was given (empty: none); None where no answer is due.

    That is a row without right answers, and a request that is to be answered by asking back: whether it was is for
    `clarification_recall`, and what is answered afterwards for `lalm converse`.
    """
    if not reference.answers or reference.asks:
        return None
    return reference.answers, hypothesis.answers[0] if hypothesis.answers else ""
