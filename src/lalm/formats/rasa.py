"""Rasa's training data in YAML: intents with examples, entities marked in them, synonyms and lookup tables.

Read: a file, or a folder with `nlu` files and `domain.yml` (Rasa 2 and 3). `[words](type)` and `[words]{"entity": "type",
"value": "..."}` become slots whose value is what is said; values, synonyms and lookup tables become the ontology. Rasa
has no speech: rows are text rows. Aliases and tags of YAML are refused, regular expressions of entities passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from lalm.data.intake import Intake
from lalm.data.ontology import Ontology
from lalm.errors import DataError
from lalm.formats._files import each, split_of
from lalm.formats._spans import place_slots
from lalm.languages import Language
from lalm.plugins import PluginConfig
from lalm.records import Frame, Slot, Utterance
from lalm.rundir import write_text

MAX_BYTES = 64 * 1024 * 1024
MAX_EXAMPLE = 5_000  # characters
# [words](type), [words](type:value), [words]{"entity": ...}, [words][{"entity": ...}, {...}], as Rasa's own parser has it
_ENTITY = re.compile(
    r"\[(?P<words>[^\]]+?)\](?:\((?P<type>[^:)]+?)(?::(?P<value>[^)]+))?\)|\{(?P<one>[^}]+?)\}|\[(?P<many>.*?)\])"
)
_DICT = re.compile(r"\{[^}]+?\}")


class _Loader(yaml.SafeLoader):
    """Strings, lists and mappings only (`no` is a word); mappings remember their line.

    An alias, which can blow a small file up, is an error, and so is any tag of an object.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not read", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        return {**super().construct_mapping(node, deep), "": node.start_mark.line + 1}


_Loader.yaml_implicit_resolvers = {}  # no plain word is a number, a date or a truth value


class Config(PluginConfig):
    """Options of the format."""

    language: Language = Field("en", description="language of the rows, which Rasa's files do not name")
    split: Literal["train", "dev", "test"] | None = Field(
        None, description="split of all rows (none: by the file's name, else train)"
    )


def read(source: str, into: Intake, cfg: Config) -> Iterator[Utterance]:
    """The examples of all `nlu` parts; what the files say of values goes to the ontology."""
    ontology = into.the_ontology()
    synonyms: dict[str, list[str]] = {}
    entities: set[str] = set()
    for path in _files(source):
        content = _load(path, into)
        for name in _list(content.get("intents"), "intents", path, into):
            ontology.intents.setdefault(str(next(iter(name)) if isinstance(name, dict) else name))
        for name in _list(content.get("entities"), "entities", path, into):
            entities.add(str(next(iter(name)) if isinstance(name, dict) else name))
        for number, item in enumerate(_list(content.get("nlu"), "nlu", path, into)):
            yield from _item(item, f"nlu[{number}]", path, into, cfg, synonyms)
    for kind in sorted(entities):
        ontology.add_values(kind, ())
    for known in ontology.slots.values():
        for value, words in synonyms.items():
            if value in known.values or any(word in known.values for word in words):
                known.values.setdefault(value)
                known.synonyms.update({word: value for word in words if word != value})


def _files(source: str) -> list[Path]:
    path = Path(source)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{source}: there is no such file or folder.")
    found = sorted(one for one in path.rglob("*") if one.suffix.lower() in (".yml", ".yaml") and one.is_file())
    if not found:
        raise DataError(f"{source}: holds no YAML files.")
    return found


def _load(path: Path, into: Intake) -> dict[str, Any]:
    """The mapping of a file; empty, with a problem, if it is none."""
    try:
        if path.stat().st_size > MAX_BYTES:
            into.problem(str(path), f"is larger than {MAX_BYTES // 2**20} MiB, which is more than is read.")
            return {}
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a safe loader: it makes plain values only
    except OSError as error:
        into.problem(str(path), f"cannot be read ({error.strerror}).")
    except RecursionError:
        into.problem(str(path), "is nested too deeply.")
    except (yaml.YAMLError, ValueError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        into.problem(where, f"not valid YAML ({getattr(error, 'problem', None) or error}).")
    else:
        if isinstance(content, dict):
            return content
        if content is not None:
            into.problem(str(path), f"a mapping is needed, this is a {type(content).__name__}.")
    return {}


def _list(value: Any, name: str, path: Path, into: Intake) -> list[Any]:
    if value in (None, ""):
        return []
    if not isinstance(value, list):
        into.problem(str(path), f"field '{name}' is a {type(value).__name__}, a list is needed.")
        return []
    return value


def _item(
    item: Any, name: str, path: Path, into: Intake, cfg: Config, synonyms: dict[str, list[str]]
) -> Iterator[Utterance]:
    """The rows of an intent; lookup tables and synonyms are taken over; regular expressions are passed over."""
    where = f"{path}, line {item['']}" if isinstance(item, dict) and "" in item else str(path)
    if not isinstance(item, dict):
        into.problem(where, f"field '{name}' is {item!r:.60}, a mapping is needed.")
        return
    kind = next((one for one in ("intent", "synonym", "lookup", "regex") if one in item), None)
    if kind is None:
        into.problem(where, f"field '{name}' names no intent, synonym, lookup or regex.")
        return
    examples = _examples(item, name, where, into)
    title = item[kind]
    if not isinstance(title, str) or not title:
        into.problem(where, f"field '{name}.{kind}' is {title!r:.60}, a name is needed.")
    elif kind == "intent":
        into.the_ontology().intents.setdefault(title)
        for number, (example, intent) in enumerate(examples, 1):
            yield from _row(example, intent or title, f"{path.stem}-{title}-{number}", where, path, into, cfg)
    elif kind == "lookup":
        into.the_ontology().add_values(title, (example for example, _ in examples))
    elif kind == "synonym":
        synonyms.setdefault(title, []).extend(example for example, _ in examples)


def _examples(item: dict[str, Any], name: str, where: str, into: Intake) -> list[tuple[str, str | None]]:
    """The examples of an item, with an intent of their own if they have one: lines of a text, or a list of mappings."""
    given = item.get("examples")
    if isinstance(given, str):
        lines = [line.strip() for line in given.splitlines()]
        wrong = [line for line in lines if line and not line.startswith("-")]
        for line in wrong:
            into.problem(where, f"field '{name}.examples': {line!r:.60} does not begin with '- '.")
        return [(line[1:].strip(), None) for line in lines if line.startswith("-") and line[1:].strip()]
    if isinstance(given, list):
        found = []
        for one in given:
            text = one.get("text") if isinstance(one, dict) else one
            own = one.get("intent") if isinstance(one, dict) else None
            if isinstance(text, str) and text.strip():
                found.append((text.strip().removeprefix("- ").strip(), own if isinstance(own, str) else None))
            else:
                into.problem(where, f"field '{name}.examples' has {one!r:.60}, a text is needed.")
        return found
    into.problem(where, f"field '{name}.examples' is {given!r:.60}, a text of lines '- example' is needed.")
    return []


def _row(
    example: str, intent: str, identity: str, where: str, path: Path, into: Intake, cfg: Config
) -> Iterator[Utterance]:
    try:
        text, found = parse_example(example)
    except ValueError as error:
        into.problem(where, f"example {example!r:.80}: {error}.")
        return
    ontology = into.the_ontology()
    for one in found:
        ontology.add_values(one["type"], (one["value"],))
        if one["said"] != one["value"]:
            ontology.slots[one["type"]].synonyms[one["said"]] = one["value"]
    slots = tuple(Slot(one["type"], one["said"]) for one in found)
    more = any(one["said"] != one["value"] or "role" in one or "group" in one for one in found)
    split = cfg.split or split_of(path.stem) or "train"
    meta = {"entities": found} if more else {}
    yield Utterance(identity, text, None, Frame(intent, slots), cfg.language, split=split, meta=meta)


def parse_example(example: str) -> tuple[str, list[dict[str, str]]]:
    """The plain text of an example and its entities (`type`, `said`, `value`, `role`, `group`). Raises ValueError."""
    if len(example) > MAX_EXAMPLE:
        raise ValueError(f"is longer than {MAX_EXAMPLE} characters")
    found: list[dict[str, str]] = []
    for match in _ENTITY.finditer(example):
        said = match["words"]
        if match["type"]:
            found.append({"type": match["type"], "said": said, "value": match["value"] or said})
            continue
        written = [match["one"] and f"{{{match['one']}}}"] if match["one"] else _DICT.findall(match["many"])
        for text in written:
            found.append({"said": said, "value": said, **_entity(text)})
    text = _ENTITY.sub(lambda match: match["words"], example)
    if not text.strip():
        raise ValueError("holds no words")
    return text, found


def _entity(text: str) -> dict[str, str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{text!r:.60} is not JSON") from None
    if not isinstance(value.get("entity"), str) or not all(
        isinstance(one, str | int | float) for one in value.values()
    ):
        raise ValueError(f"{text!r:.60} names no entity")
    kept = {key: str(value[key]) for key in ("value", "role", "group") if key in value}
    return {"type": value["entity"], **kept}


def write(rows: Iterable[Utterance], out: Path, cfg: Config) -> int:
    """An `nlu` file with the text of all rows, an intent after the other; recordings are left out.

    Raises DataError for rows without text or intent, and for slots that do not stand in the text.
    """
    by_intent: dict[str, list[str]] = {}
    ontology = Ontology()
    count = 0
    for row, example in each(rows, lambda row: (row, _marked(row)), out):
        by_intent.setdefault(row.frame.intent or "", []).append(example)
        ontology.add(row.frame)
        count += 1
    parts = ['version: "3.1"', "", "nlu:"]
    for intent, examples in by_intent.items():
        parts += [f"- intent: {json.dumps(intent, ensure_ascii=False)}", "  examples: |"]
        parts += [f"    - {example}" for example in examples]
    write_text(out, "\n".join(parts) + "\n")
    return count


def _marked(row: Utterance) -> str:
    if not row.text or not row.frame.intent:
        raise DataError("has no text or no intent, and Rasa's examples need both.")
    text = " ".join(row.text.split())
    if len(text) > MAX_EXAMPLE or not text.isprintable():
        raise DataError(f"{text!r:.60} is too long, or holds characters that cannot stand in YAML.")
    if _ENTITY.search(text):
        raise DataError(f"{text!r}: brackets that look like a marked entity cannot stand in an example.")
    given = {(one.get("type"), one.get("said")): one for one in row.meta.get("entities", ()) if isinstance(one, dict)}
    marked, end = "", 0
    for start, stop, slot in place_slots(text, row.frame.slots):
        marked += text[end:start] + _entity_text(text[start:stop], slot, given.get((slot.type, slot.value), {}))
        end = stop
    return marked + text[end:]


def _entity_text(said: str, slot: Slot, given: dict[str, str]) -> str:
    if "]" in said or "[" in said:
        raise DataError(f"slot '{slot.type}': {said!r} holds a bracket, which cannot stand in a marked entity.")
    more = {key: given[key] for key in ("value", "role", "group") if given.get(key, said) != said}
    if more or any(letter in slot.type for letter in ":)"):
        return f"[{said}]{json.dumps({'entity': slot.type, **more}, ensure_ascii=False)}"
    return f"[{said}]({slot.type})"
