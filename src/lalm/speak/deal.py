"""Who speaks what: voices kept apart between splits, sentences dealt out among engines and voices. Seeded and pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random

from lalm.errors import UserError, many

Voice = tuple[str, str]  # engine and voice


def deal_voices(
    voices: Mapping[str, Sequence[str]], sizes: Mapping[str, int], given: Mapping[Voice, str], seed: int, least: int = 1
) -> dict[Voice, str]:
    """The split that each voice of each engine speaks for, in proportion to `sizes` (sentences by split).

    Splits with fewer than `least` voices come first, the larger before the smaller; then each engine's voices follow the
    proportions. Voices that are `given` away already (for another language, or by rows that name them) stay where they are.
    """
    result = {
        (engine, voice): given[engine, voice]
        for engine, names in voices.items()
        for voice in names
        if (engine, voice) in given
    }
    order = sorted(sizes, key=lambda split: (-sizes[split], split))
    for engine, names in voices.items():
        left = [name for name in sorted(names) if (engine, name) not in result]
        Random(f"{seed}/{engine}").shuffle(left)
        has = {split: sum(result.get((engine, name)) == split for name in names) for split in order}
        for name in left:
            total = Counter(result.values())
            without = sorted((split for split in order if total[split] < least), key=lambda one: total[one])
            split = (without or sorted(order, key=lambda one: (has[one] + 1) / sizes[one]))[0]
            result[engine, name] = split
            has[split] += 1
    return result


def check_enough(
    dealt: Mapping[Voice, str], sizes: Mapping[str, int], wanted: Sequence[str], language: str, least: int = 1
) -> None:
    """Raises UserError if a split that is to be spoken has no voice, or fewer than the `least` that a dialogue needs."""
    total = Counter(dealt.values())
    few = [f"{split} ({total[split]})" for split in wanted if total[split] < least]
    if few and least > 1:
        raise UserError(
            f"{many(len(dealt), 'voice')} of '{language}' for dialogues of {len(sizes)} splits ({', '.join(sizes)}): a dialogue "
            f"needs {least} different ones, and there are fewer for {' and '.join(few)}, since one that speaks training rows must "
            "not speak others. Add voices or engines (--voices, --engine; --list shows them)."
        )
    without = [split for split in wanted if split not in dealt.values()]
    if without:
        raise UserError(
            f"{many(len(dealt), 'voice')} of '{language}' for sentences of {len(sizes)} splits ({', '.join(sizes)}): none is "
            f"left for {' and '.join(without)}, and one that speaks training sentences must not speak others. Add voices or "
            "engines (--voices, --engine; --list shows them), or speak fewer splits (--split)."
        )


class Dealer:
    """Deals the sentences of one split and language out among engines, and within an engine among its voices, all in turn.

    Turns are shuffled anew every round, so that no regularity in the order of the rows meets one in that of the voices; what
    has been dealt stays when rows are added behind. Copies of a sentence get different voices while there are any.
    """

    def __init__(self, voices: Mapping[str, Sequence[str]], seed: str) -> None:
        self._voices, self._seed, self._dealt = {name: list(names) for name, names in voices.items()}, seed, 0

    def next(self, copies: int) -> list[Voice]:
        """The voices of the next sentence, one a copy."""
        engines = list(self._voices)
        turn, place = divmod(self._dealt, len(engines))
        Random(f"{self._seed}/{turn}").shuffle(engines)
        self._dealt += 1
        result = []
        for copy in range(copies):
            engine = engines[(place + copy) % len(engines)]
            voices = list(self._voices[engine])
            lap, index = divmod(turn, len(voices))
            Random(f"{self._seed}/{engine}/{lap}").shuffle(voices)
            result.append((engine, voices[(index + copy // len(engines)) % len(voices)]))
        return result

    def orders(self, size: int, copies: int) -> list[list[Voice]]:
        """All voices in an order for the next dialogue, whose speakers take the first of them, one order a copy.

        `size` is the number of speakers: the orders of two copies begin with other voices while there are any.
        """
        reach = len(self._voices) * max(len(voices) for voices in self._voices.values())
        voices = list(dict.fromkeys(self.next(reach)))
        begins = [copy * size % len(voices) for copy in range(copies)]
        return [voices[begin:] + voices[:begin] for begin in begins]
