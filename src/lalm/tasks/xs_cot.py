"""Through another language: what was said, what that means in English, then intent and slots; the steps can be cut short.

Source: cross-lingual chain of thought for speech (XS-CoT, arXiv 2504.20835), which generates the transcript in the target language, the
instruction and the response in the source language, and the response in the target one. For understanding the chain is transcript,
translation, frame. Its semi-implicit compression keeps of each internalised sentence the first k word groups and "...", and
internalises more of them as training goes on (the scheme `semi_implicit`). The source does not say what a word group is nor in which
order sentences go: here words (two characters where writing sets no blanks), the first sentence first.

Translations stand in the rows' `meta` (the corpus `joined` puts them there, with their language), or are the words of a row in the pivot language with the same
`slurp_id`. A row without one, and one in the pivot language, has no such step. To train with the chain and answer without it, make this
an auxiliary task of `multitask` beside `slu`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from types import MappingProxyType

from pydantic import Field, PositiveInt

from lalm.data.labels import answer_text
from lalm.languages import UNSPACED, Language, base, name
from lalm.plugins import PluginConfig
from lalm.records import Example, Utterance

CUT = "..."
_SAID = "said: "


class Config(PluginConfig):
    """Options of the task."""

    instruction: str = Field(
        "Write down what is said, what that is in {pivot}, and then the intent and the slots as one line of JSON: "
        '{"intent": "<string>", "slots": [{"<slot type>": "<value>"}, ...]}',
        min_length=1,
        description="what the model is told; {pivot} becomes the language's name",
    )
    pivot: Language = Field("en", description="language that is translated into")
    internalised: int = Field(0, ge=0, le=2, description="steps cut short: none, the transcript, the translation too")
    num_kept: PositiveInt = Field(2, description="word groups kept of a step that is cut short")
    translation: str = Field("translation", min_length=1, description="field of `meta` with the translation")
    label: str = Field("xs_cot", min_length=1, description="what its rows are called among those of other tasks")


def survey(rows: Iterable[Utterance], cfg: Config) -> Mapping[str, str]:
    """`slurp_id` -> words, of the rows in the pivot language."""
    pivot = (row for row in rows if row.language == cfg.pivot and row.text and "slurp_id" in row.meta)
    return {str(row.meta["slurp_id"]): row.text or "" for row in pivot}


def examples(
    item: Utterance, cfg: Config, rng: Random, known: Mapping[str, str] = MappingProxyType({})
) -> list[Example]:
    """One example: spoken if the item has audio, else written; without steps where the words are not known."""
    if item.turns:
        return []
    steps = [(_SAID, item.text, item.language)] if item.text else []
    translated = _translation(item, cfg) or known.get(str(item.meta.get("slurp_id")))
    if steps and item.language != cfg.pivot and translated is not None:
        steps.append((f"in {name(cfg.pivot)}: ", translated, cfg.pivot))
    lines = [
        tag + (cut_short(words or "", cfg.num_kept, language) if place < cfg.internalised else words or "")
        for place, (tag, words, language) in enumerate(steps)
    ]
    return [
        Example(
            id=item.id,
            instruction=cfg.instruction.replace("{pivot}", name(cfg.pivot)),
            answer="\n".join([*lines, answer_text(item.frame)]),
            text=item.text,
            audio=item.audio,
            task=cfg.label,
            language=item.language,
            frame=item.frame,
        )
    ]


def _translation(item: Utterance, cfg: Config) -> str | None:
    """What stands in `meta`, unless it is said to be in another language than the pivot."""
    if base(str(item.meta.get(f"{cfg.translation}_language", cfg.pivot))) != cfg.pivot:
        return None
    found = item.meta.get(cfg.translation)
    return found if isinstance(found, str) else None


def cut_short(sentence: str, num_kept: int, language: str) -> str:
    """The first word groups and "..."; a sentence that has no more than these as it is."""
    if language in UNSPACED:
        plain = sentence.strip()
        return plain if len(plain) <= 2 * num_kept else plain[: 2 * num_kept] + CUT
    words = sentence.split()
    return " ".join(words) if len(words) <= num_kept else f"{' '.join(words[:num_kept])} {CUT}"


def final(raw: str) -> str:
    """The part of an answer that counts: its first line that begins with a brace, and what follows; all of it without one."""
    lines = raw.splitlines()
    start = next((place for place, line in enumerate(lines) if line.lstrip().startswith("{")), 0)
    return "\n".join(lines[start:])
