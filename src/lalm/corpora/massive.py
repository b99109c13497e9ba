"""MASSIVE: 16,521 labelled commands to a home assistant in each of 51 languages; text only.

FitzGerald et al. 2022 (arXiv 2204.08582), SLURP's sentences put into other languages. Layout of version 1.0 and 1.1: a file
`LOCALE.jsonl` a language (`id`, `locale`, `partition`, `scenario`, `intent`, `utt`, `annot_utt`), in `data/`, `1.0/data/` or
`1.1/data/` of the archive. CC BY 4.0. There are no recordings; `speech_massive` and `italic` have some.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from lalm.corpora._complete import CHECK_COUNTS, check_count, first_folder, lines_of, text_of
from lalm.data.annotated import parse_annotated
from lalm.errors import DataError, nearest
from lalm.languages import Locale, base
from lalm.plugins import PluginConfig
from lalm.records import Frame, Utterance
from lalm.rundir import write_jsonl

LICENCE = "CC-BY-4.0"
NUM_ROWS = {"train": 11514, "dev": 2033, "test": 2974}  # of every language
LOCALES = (  # 51 came with version 1.0, ca-ES with 1.1
    "af-ZA", "am-ET", "ar-SA", "az-AZ", "bn-BD", "ca-ES", "cy-GB", "da-DK", "de-DE", "el-GR", "en-US", "es-ES", "fa-IR", "fi-FI",
    "fr-FR", "he-IL", "hi-IN", "hu-HU", "hy-AM", "id-ID", "is-IS", "it-IT", "ja-JP", "jv-ID", "ka-GE", "km-KH", "kn-IN", "ko-KR",
    "lv-LV", "ml-IN", "mn-MN", "ms-MY", "my-MM", "nb-NO", "nl-NL", "pl-PL", "pt-PT", "ro-RO", "ru-RU", "sl-SL", "sq-AL", "sv-SE",
    "sw-KE", "ta-IN", "te-IN", "th-TH", "tl-PH", "tr-TR", "ur-PK", "vi-VN", "zh-CN", "zh-TW",
)  # fmt: skip


class Config(PluginConfig):
    """Options of the corpus."""

    locale: Locale = Field("en-US", description="language and country, as the file is called")
    check_counts: bool = Field(True, description=CHECK_COUNTS)


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """The sentences of a split. Raises DataError for missing files, bad rows (all listed), and files that are not complete."""
    path = _file(root, cfg.locale)
    found = Counter(dict.fromkeys(NUM_ROWS, 0))
    rows = []
    for row in lines_of(path, lambda value: [sentence(value)]):
        found[str(row.split)] += 1
        if row.split == split:
            rows.append(row)
    check_count(path, found[split], NUM_ROWS[split], cfg.check_counts)
    yield from rows


def _file(root: Path, locale: str) -> Path:
    if root.is_file():
        return root
    folder = first_folder(root, "1.1/data", "1.0/data", "data")
    path = folder / f"{locale}.jsonl"
    if not path.is_file():
        known = sorted(one.stem for one in folder.glob("*-*.jsonl")) if folder.is_dir() else []
        raise DataError(f"{path}: there is no such file.{nearest(locale, known or LOCALES)}")
    return path


def sentence(value: dict[str, Any]) -> Utterance:
    """The row of a parsed line. Raises KeyError, TypeError or ValueError for a line that is none of MASSIVE's."""
    name, intent, scenario = (text_of(value, field) for field in ("id", "intent", "scenario"))
    plain, slots = parse_annotated(text_of(value, "annot_utt"))
    text = text_of(value, "utt")
    if " ".join(plain.split()) != " ".join(text.split()):
        raise ValueError(f"field 'annot_utt' says {plain!r:.60} and 'utt' {text!r:.60}")
    split = value["partition"]
    if split not in NUM_ROWS:
        raise ValueError(f"field 'partition' is {split!r:.60}; allowed: {', '.join(NUM_ROWS)}")
    meta = {"scenario": scenario, "action": intent.removeprefix(f"{scenario}_"), "slurp_id": name}
    language = base(text_of(value, "locale"))
    return Utterance(name, text, None, Frame(intent, slots), language, split=split, meta=meta)


TINY = (
    ("alarm", "set", "wake me at {}", "nine am", "wake me at [time : nine am]"),
    ("play", "music", "play some {}", "jazz", "play some [music_genre : jazz]"),
    ("weather", "query", "will it rain in {}", "rome", "will it rain in [place_name : rome]"),
    ("audio", "volume_mute", "mute the speakers{}", "", "mute the speakers"),
)


def tiny_rows(locale: str, partition: str, start: int) -> list[dict[str, Any]]:
    """Four rows as MASSIVE's files hold them."""
    return [
        {
            "id": str(start + index),
            "locale": locale,
            "partition": partition,
            "scenario": scenario,
            "intent": f"{scenario}_{action}",
            "utt": words.format(value),
            "annot_utt": annotated,
            "worker_id": "0",
        }
        for index, (scenario, action, words, value, annotated) in enumerate(TINY)
    ]


def make_tiny(root: Path, seed: int) -> None:
    """Four sentences a split in one language."""
    rows = [row for index, split in enumerate(NUM_ROWS) for row in tiny_rows("en-US", split, 10 * index)]
    write_jsonl(root / "data" / "en-US.jsonl", rows)
