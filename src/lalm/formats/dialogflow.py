"""Dialogflow exports: intents with training phrases, entity types with their values (ES and CX, a folder or the zip).

Read: `intents/NAME_usersays_LANG.json` and `entities/NAME_entries_LANG.json` (ES), `intents/NAME/trainingPhrases/LANG.json`
and `entityTypes/NAME/entities/LANG.json` (CX). Marked parts become slots named after their parameter; entity types become
the ontology, closed where Dialogflow adds no values of its own. Written: an ES export. A zip is read where it is, never unpacked.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field

from lalm.data.intake import Intake
from lalm.errors import DataError, UserError
from lalm.formats._files import each
from lalm.formats._spans import place_slots
from lalm.formats._tree import Tree
from lalm.languages import base
from lalm.plugins import PluginConfig
from lalm.records import Frame, Slot, Utterance

_NAMESPACE = uuid.UUID("7d8a4c8e-9a0f-4a51-8f0b-6c6d1f6c0c11")  # ids of what is written are made from names


class Config(PluginConfig):
    """Options of the format."""

    language: str | None = Field(None, description="language that is read, or written (none: all; writing: en)")
    split: Literal["train", "dev", "test"] = Field("train", description="split of all rows, which exports do not name")


def read(source: str, into: Intake, cfg: Config) -> Iterator[Utterance]:
    """The training phrases of all intents."""
    with Tree(source) as tree:
        names = sorted(tree.sizes)
        phrases = [name for name in names if _kind(name) == "phrases"]
        if not phrases:
            raise DataError(f"{source}: holds no training phrases (intents/*_usersays_*.json or trainingPhrases).")
        for name in names:
            if _kind(name) == "entries":
                _entries(tree, name, into, cfg)
        kinds: dict[str, str] = {}
        for name in phrases:
            yield from _phrases(tree, name, into, cfg, kinds)
    _name_slots(kinds, into)


def _name_slots(kinds: dict[str, str], into: Intake) -> None:
    """Slots bear the names of parameters, entity types are what their values are: the values go to the parameters' names."""
    known = into.the_ontology().slots
    types = {kind: known[kind] for kind in kinds.values() if kind in known}
    for alias, kind in kinds.items():
        if alias != kind and kind in types:
            into.the_ontology().add_values(alias, types[kind].values, types[kind].closed)
            known[alias].synonyms.update(types[kind].synonyms)
    for kind in set(types) - set(kinds):
        del known[kind]


def _kind(name: str) -> str | None:
    """What a file of an export holds."""
    parts = PurePosixPath(name).parts
    if ".." in parts or not name.endswith(".json"):
        return None
    if "intents" in parts and ("_usersays_" in parts[-1] or "trainingPhrases" in parts):
        return "phrases"
    if ("entities" in parts and "_entries_" in parts[-1]) or ("entityTypes" in parts and "entities" in parts):
        return "entries"
    return None


def _names(name: str, mark: str) -> tuple[str, str]:
    """The intent or entity type that a file is of, and its language."""
    path = PurePosixPath(name)
    if mark in path.name:
        title, _, language = path.stem.rpartition(mark)
        return title, language
    return path.parts[-3], path.stem


def _entries(tree: Tree, name: str, into: Intake, cfg: Config) -> None:
    title, language = _names(name, "_entries_")
    if cfg.language not in (None, language):
        return
    value = tree.load(name, into)
    entries = value.get("entities") if isinstance(value, dict) else value
    if entries is None:
        return
    where = f"{tree.where}/{name}"
    if not isinstance(entries, list):
        into.problem(where, "a list of entries is needed.")
        return
    known = into.the_ontology().slots
    values, synonyms = [], {}
    for number, one in enumerate(entries):
        if not isinstance(one, dict) or not isinstance(one.get("value"), str):
            into.problem(where, f"entry {number + 1} is {one!r:.60}, an object with a string 'value' is needed.")
            continue
        values.append(one["value"])
        others = one.get("synonyms")
        for word in others if isinstance(others, list) else []:
            if isinstance(word, str) and word != one["value"]:
                synonyms[word] = one["value"]
    into.the_ontology().add_values(title, values, _is_closed(tree, name, title, into))
    known[title].synonyms.update(synonyms)


def _is_closed(tree: Tree, name: str, title: str, into: Intake) -> bool:
    """Whether Dialogflow takes no other values: the file of the entity type says so."""
    folder = PurePosixPath(name).parent
    if "_entries_" not in PurePosixPath(name).name:  # CX keeps values in a folder of their own
        folder = folder.parent
    path = str(folder / f"{title}.json")
    value = tree.load(path, into) if path in tree.sizes else None
    if not isinstance(value, dict):
        return False
    kind = value.get("kind", "KIND_MAP")
    expands = value.get("automatedExpansion", value.get("autoExpansionMode", False))
    return (
        expands in (False, None, "AUTO_EXPANSION_MODE_UNSPECIFIED")
        and kind != "KIND_REGEXP"
        and not value.get("isRegexp")
    )


def _phrases(tree: Tree, name: str, into: Intake, cfg: Config, all_kinds: dict[str, str]) -> Iterator[Utterance]:
    intent, language = _names(name, "_usersays_")
    if cfg.language not in (None, language):
        return
    value = tree.load(name, into)
    phrases = value.get("trainingPhrases") if isinstance(value, dict) else value
    where = f"{tree.where}/{name}"
    if phrases is not None and not isinstance(phrases, list):
        into.problem(where, "a list of training phrases is needed.")
        return
    into.the_ontology().intents.setdefault(intent)
    try:
        spoken = base(language)
    except ValueError as error:
        into.problem(where, f"{error}.")
        return
    for number, phrase in enumerate(phrases or [], 1):
        try:
            text, slots, kinds = _phrase(phrase)
        except ValueError as error:
            into.problem(where, f"phrase {number}: {error}.")
            continue
        if isinstance(phrase, dict) and phrase.get("isTemplate"):
            into.problem(where, f"phrase {number}: {text!r} is a template (@type:name), which nobody says.")
            continue
        all_kinds.update({slot.type: kinds.get(slot.type, slot.type) for slot in slots})
        known = into.the_ontology().slots
        for slot in slots:
            is_listed = kinds.get(slot.type, slot.type) in known  # an entity type of the export lists its own values
            into.the_ontology().add_values(slot.type, () if is_listed else (slot.value,))
        meta = {"entity_types": kinds} if any(alias != kind for alias, kind in kinds.items()) else {}
        frame = Frame(intent, slots)
        yield Utterance(f"{intent}-{language}-{number}", text, None, frame, spoken, split=cfg.split, meta=meta)


def _phrase(phrase: Any) -> tuple[str, tuple[Slot, ...], dict[str, str]]:
    """The text of a phrase, its slots, and the entity type of each slot that names one. Raises ValueError."""
    parts = (phrase.get("data") or phrase.get("parts")) if isinstance(phrase, dict) else None
    if not isinstance(parts, list) or not parts:
        raise ValueError(f"is {phrase!r:.60}, an object with a list 'data' (or 'parts') is needed")
    text, slots, kinds = "", [], {}
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise ValueError(f"has the part {part!r:.60}, an object with a string 'text' is needed")
        alias = part.get("alias") or part.get("parameterId")
        text += part["text"]
        if alias is None:
            continue
        if not isinstance(alias, str) or not part["text"].strip():
            raise ValueError(f"has the part {part!r:.60}, a named part needs words and a name")
        slots.append(Slot(alias, part["text"].strip()))
        if isinstance(part.get("meta"), str):
            kinds[alias] = part["meta"].lstrip("@")
    if not text.strip():
        raise ValueError("holds no words")
    return " ".join(text.split()), tuple(slots), kinds


def write(rows: Iterable[Utterance], out: Path, cfg: Config) -> int:
    """An ES export in the folder `out`: intents with the text of all rows, entity types with the values seen.

    Raises DataError for rows without text or intent, for names that are no file names, and for slots that do not stand in
    the text.
    """
    language = cfg.language or "en"
    phrases: dict[str, list[dict[str, Any]]] = {}
    values: dict[str, dict[str, None]] = {}
    count = 0
    for row, data in each(rows, lambda row: (row, _data(row)), out):
        intent = row.frame.intent or ""
        number = len(phrases.setdefault(intent, []))
        phrases[intent].append(
            {
                "id": _id(intent, str(number)),
                "data": data,
                "isTemplate": False,
                "count": 0,
                "lang": language,
                "updated": 0,
            }
        )
        for slot in row.frame.slots:
            values.setdefault(slot.type, {}).setdefault(slot.value)
        count += 1
    files: dict[str, Any] = {
        "package.json": {"version": "1.0.0"},
        "agent.json": {"language": language, "description": "", "supportedLanguages": [], "displayName": out.name},
    }
    for intent, given in phrases.items():
        files[f"intents/{intent}.json"] = _intent(intent, given)
        files[f"intents/{intent}_usersays_{language}.json"] = given
    for kind, known in values.items():
        files[f"entities/{kind}.json"] = {
            "id": _id("entity", kind), "name": kind, "isOverridable": True, "isEnum": False, "isRegexp": False,
            "automatedExpansion": True, "allowFuzzyExtraction": False,
        }  # fmt: skip
        files[f"entities/{kind}_entries_{language}.json"] = [{"value": one, "synonyms": [one]} for one in known]
    _write_folder(out, files)
    return count


def _data(row: Utterance) -> list[dict[str, Any]]:
    """The parts of a phrase."""
    if not row.text or not row.frame.intent:
        raise DataError("has no text or no intent, and training phrases need both.")
    for name in (row.frame.intent, *(slot.type for slot in row.frame.slots)):
        if "/" in name or "\0" in name or name.strip() in ("", ".", "..") or len(name.encode()) > 200:
            raise DataError(f"{name!r:.60} is to be the name of a file, and cannot be.")
    text = " ".join(row.text.split())
    kinds = row.meta.get("entity_types")
    kinds = kinds if isinstance(kinds, dict) else {}
    parts: list[dict[str, Any]] = []
    end = 0
    for start, stop, slot in place_slots(text, row.frame.slots):
        if start > end:
            parts.append({"text": text[end:start], "userDefined": False})
        meta = f"@{kinds.get(slot.type, slot.type)}"
        parts.append({"text": text[start:stop], "alias": slot.type, "meta": meta, "userDefined": True})
        end = stop
    return [*parts, {"text": text[end:], "userDefined": False}] if end < len(text) or not parts else parts


def _intent(name: str, phrases: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = {part["alias"]: part["meta"] for phrase in phrases for part in phrase["data"] if "alias" in part}
    parameters = [
        {
            "id": _id(name, alias),
            "name": alias,
            "required": False,
            "dataType": meta,
            "value": f"${alias}",
            "isList": False,
        }
        for alias, meta in kinds.items()
    ]
    return {
        "id": _id("intent", name), "name": name, "auto": True, "contexts": [], "priority": 500000, "webhookUsed": False,
        "responses": [{"resetContexts": False, "affectedContexts": [], "parameters": parameters, "messages": []}],
        "fallbackIntent": False, "events": [],
    }  # fmt: skip


def _id(*names: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, "\0".join(names)))


def _write_folder(out: Path, files: dict[str, Any]) -> None:
    """All files or none."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
        try:
            for name, value in files.items():
                path = part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
            part.chmod(0o755)
            part.replace(out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{out}: cannot be written ({getattr(error, 'strerror', None) or error}).") from error
