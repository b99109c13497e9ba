"""Languages in a mixture: pools of one language each, and how often these are gone through.

A pool of examples has parts by language, called `text@fr`, `speech@fr`, and `speech@fr:transcribe` for an auxiliary task. With
`data.language_temperature` T, a stage goes through the parts of each of its pools in place of the pool, so that rows of a language
are seen in proportion to n ** (1 / T), n being its rows in the pool, and as many rows of the pool in all as the scheme says: T = 1
keeps the proportions of the data, a larger T brings the languages nearer to each other. A scheme of one's own may name parts, too. That is the sampling of mBERT and XLM-R (Conneau et al. 2020, arXiv 1911.02116, section 3.1, whose alpha is 1 / T).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lalm.records import Example, Stage

Examples = dict[str, list[Example]]


def part(pool: str, language: str) -> str:
    """The name of a pool's part in one language: `speech@fr:transcribe` of `speech:transcribe`."""
    name, colon, task = pool.partition(":")
    return f"{name}@{language}{colon}{task}"


def with_parts(examples: Mapping[str, Sequence[Example]]) -> Examples:
    """The pools, followed by their parts where training holds several languages."""
    result = {pool: list(rows) for pool, rows in examples.items()}
    languages = sorted({row.language for rows in examples.values() for row in rows})
    for pool, rows in examples.items() if len(languages) > 1 else ():
        for language in languages:
            own = [row for row in rows if row.language == language]
            if own:
                result[part(pool, language)] = own
    return result


def by_temperature(
    stages: Sequence[Stage], examples: Mapping[str, Sequence[Example]], temperature: float
) -> list[Stage]:
    """The stages with passes over the parts of each pool, which `with_parts` made, in place of the pool's own."""
    return [replace(stage, passes=_passes(stage.passes, examples, temperature)) for stage in stages]


def _passes(
    passes: Mapping[str, float], examples: Mapping[str, Sequence[Example]], temperature: float
) -> dict[str, float]:
    result = {}
    for pool, times in passes.items():
        languages = {row.language for row in examples.get(pool, ())}
        if len(languages) < 2 or "@" in pool:
            result[pool] = times
            continue
        sizes = {language: len(examples[part(pool, language)]) for language in sorted(languages)}
        weights = {language: size ** (1 / temperature) for language, size in sizes.items()}
        rows = times * sum(sizes.values())
        for language, size in sizes.items():
            result[part(pool, language)] = rows * weights[language] / sum(weights.values()) / size
    return result
