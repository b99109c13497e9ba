"""The grammar of answers: it accepts what `answer_text` writes of frames within its bounds, and nothing else."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from pydantic import ValidationError

from lalm.backbones._tiny import byte_tokenizer
from lalm.data import grammar
from lalm.data.grammar import Seen, answer_grammar, asked_grammar, read_seen, seen_in
from lalm.data.labels import answer_text
from lalm.data.ontology import Ontology, SlotType, of_frames, write_ontology
from lalm.errors import DataError
from lalm.evaluate.parse import parse_answer
from lalm.records import Frame, Slot
from lalm.rundir import write_json
from lalm.sections import EvaluateSection


@functools.cache
def bytes_as_tokens() -> LLTokenizer:
    return from_tokenizer(byte_tokenizer())


def accepts(lark: str, text: str) -> bool:
    """Whether llguidance takes the whole text, byte by byte, and could end there."""
    matcher = LLMatcher(bytes_as_tokens(), lark)
    assert not matcher.is_error(), matcher.get_error()
    ids = bytes_as_tokens().tokenize_str(text)
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


def allowed(text: str, ontology: Ontology, seen: Seen) -> bool:
    """The same without a grammar: it is read, written again, and held against the ontology."""
    frame, status = parse_answer(text)
    if status != "ok" or frame is None or answer_text(frame) != text:
        return False
    if frame.intent not in ontology.intents and not (frame.intent is None and seen.null_intent):
        return False
    if len(frame.slots) > seen.most_slots + grammar.MORE_SLOTS:
        return False
    for slot in frame.slots:
        one, known = ontology.slots.get(slot.type), seen.labels.slots.get(slot.type, SlotType())
        if one is None:
            return False
        if one.closed:
            if slot.value not in {*one.values, *one.synonyms, *(v for v in known.values if one.allows(v))}:
                return False
        elif len(slot.value) > grammar.max_characters(one, known):
            return False
    return True


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
AWKWARD = st.sampled_from(
    ['"', "\\", "\\u0041", "\n", "\x00\x1f\x7f", "\u2028", "é☕", "𝄞", "", "/", "{", "null", "a//b", "<|im_end|"]
)


@st.composite
def worlds(draw: Any) -> tuple[Ontology, Seen, Frame]:
    """An ontology, what training rows held, and a frame that may stand or, now and then, may not."""
    word = WORDS | AWKWARD
    types = draw(st.lists(word, max_size=3, unique=True))
    frames = st.builds(
        Frame,
        st.none() | word,
        st.lists(st.builds(Slot, st.sampled_from(types), word), max_size=3).map(tuple) if types else st.just(()),
    )
    rows = draw(st.lists(frames, min_size=1, max_size=3))
    seen, ontology = seen_in(rows), of_frames(rows)
    for kind in types:
        one = ontology.slots.setdefault(kind, SlotType())
        one.closed = draw(st.booleans())
        one.synonyms = draw(st.dictionaries(word, st.just(""), max_size=1))
    values = {kind: [*one.values, *one.synonyms] or [""] for kind, one in ontology.slots.items()}
    slots = draw(st.lists(st.sampled_from(types), max_size=seen.most_slots + 3)) if types else []
    frame = Frame(
        draw(st.sampled_from([row.intent for row in rows])),
        tuple(Slot(kind, draw(st.sampled_from(values[kind]) | word | st.just("x" * 40))) for kind in slots),
    )
    return ontology, seen, frame


@settings(max_examples=100, deadline=None)
@given(world=worlds(), data=st.data())
def test_it_accepts_answers_within_bounds_and_nothing_else(world, data):
    ontology, seen, frame = world
    made, text = answer_grammar(ontology, seen), answer_text(frame)
    assert accepts(made.lark, text) == allowed(text, ontology, seen)
    if allowed(text, ontology, seen):
        assert len(text.encode()) <= made.max_bytes
    where = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 2))
    changed = (
        text[:where]
        + data.draw(AWKWARD | st.sampled_from([" ", "\\n", "\\/", "\\u00e9", "\\u001F", ","]))
        + text[where + cut :]
    )
    assert accepts(made.lark, changed) == allowed(changed, ontology, seen)


def test_every_character_is_written_as_json_writes_it():
    seen = seen_in([Frame("say", (Slot("what", ""),))])
    lark = answer_grammar(seen.labels, seen).lark
    for code in [*range(0x100), 0x7FF, 0x800, 0x2028, 0xD7FF, 0xE000, 0xFEFF, 0xFFFF, 0x10000, 0x10FFFF]:
        assert accepts(lark, answer_text(Frame("say", (Slot("what", chr(code)),)))), hex(code)
        if code > 0x1F:
            other = f'{{"intent": "say", "slots": [{{"what": "\\u{code:04x}"}}]}}'
            assert not accepts(lark, other), "one way of writing it and no other"


def test_bounds_are_those_of_the_longest_value_and_the_fullest_row():
    rows = [Frame("go", (Slot("long", "y" * 30), Slot("short", "z"))), Frame(None)]
    seen = seen_in(rows)
    lark = answer_grammar(seen.labels, seen).lark
    for kind, most in (("long", 60), ("short", 32)):
        for number in (most, most + 1):
            assert accepts(lark, answer_text(Frame("go", (Slot(kind, "é" * number),)))) == (number == most)
    for number in (4, 5):
        assert accepts(lark, answer_text(Frame(None, (Slot("short", "z"),) * number))) == (number == 4)


def test_the_longest_answer_is_as_long_as_is_said():
    ontology = Ontology(
        {"étude": None, "a": None}, {"o": SlotType({"v": None}), "c": SlotType({"ü" * 9: None}, closed=True)}
    )
    seen = Seen(ontology, 1, True)
    longest = answer_text(Frame("étude", (Slot("o", "\x01" * 32),) * 3))
    made = answer_grammar(ontology, seen)
    assert accepts(made.lark, longest)
    assert made.max_bytes == len(longest.encode())
    without = answer_grammar(Ontology({"a": None}, {"c": SlotType(closed=True)}), seen)
    assert without.max_bytes == len('{"intent": null, "slots": []}')
    assert accepts(without.lark, '{"intent": null, "slots": []}')


def test_closed_lists_take_values_synonyms_and_what_rows_write_in_other_letters():
    ontology = Ontology({"heat": None}, {"room": SlotType({"bath": None}, {"wc": "bath"}, closed=True)})
    seen = seen_in([Frame("heat", (Slot("room", "Bath"),)), Frame("heat", (Slot("room", "attic"),))])
    lark = answer_grammar(ontology, seen).lark
    for value, right in {"bath": True, "wc": True, "Bath": True, "BATH": False, "attic": False}.items():
        assert accepts(lark, answer_text(Frame("heat", (Slot("room", value),)))) == right, value
    assert not accepts(lark, answer_text(Frame(None))), "every row has an intent"


def test_long_lists_are_no_burden():
    ontology = Ontology({"go": None}, {"to": SlotType({f"street {n}": None for n in range(5000)}, closed=True)})
    lark = answer_grammar(ontology, Seen(ontology, 1, False)).lark
    assert accepts(lark, answer_text(Frame("go", (Slot("to", "street 4999"),))))
    assert not accepts(lark, answer_text(Frame("go", (Slot("to", "street 5000"),))))


def test_what_a_run_keeps_is_read_back(tmp_path: Path):
    rows = [Frame("b", (Slot("t", "y"), Slot("t", "x"))), Frame(None), Frame("a")]
    write_json(tmp_path / "labels.json", seen_in(rows).to_json())
    kept = json.loads((tmp_path / "labels.json").read_text())
    assert kept == {"intents": ["a", "b"], "slots": {"t": ["x", "y"]}, "most_slots": 2, "null_intent": True}
    seen = read_seen(tmp_path / "labels.json")
    assert (seen.most_slots, seen.null_intent, set(seen.labels.slots["t"].values)) == (2, True, {"x", "y"})
    for wrong in ({"intents": [], "slots": {}}, {**kept, "most_slots": True}, {**kept, "null_intent": 1}):
        write_json(tmp_path / "labels.json", wrong)
        with pytest.raises(DataError, match=r"labels\.json: fields 'most_slots'.*earlier releases"):
            read_seen(tmp_path / "labels.json")


def test_the_ontology_is_that_of_the_run_folder_else_of_the_recipe_else_the_labels(tmp_path: Path):
    seen = seen_in([Frame("a")])
    assert asked_grammar(EvaluateSection(), seen) is None
    kept, named = tmp_path / "kept.json", tmp_path / "named.json"
    write_ontology(named, Ontology({"named": None}))
    cfg = EvaluateSection(constrained=True)
    named_cfg = EvaluateSection(constrained=True, ontology=named)
    assert '\\"a\\"' in asked_grammar(cfg, seen, kept).lark
    assert '\\"named\\"' in asked_grammar(named_cfg, seen, kept).lark
    write_ontology(kept, Ontology({"kept": None}))
    assert '\\"kept\\"' in asked_grammar(named_cfg, seen, kept).lark


def test_slot_types_can_be_closed_with_the_values_of_the_training_rows():
    seen = seen_in(
        [Frame("order", (Slot("drink", "latte"), Slot("size", "large"))), Frame("order", (Slot("drink", "mocha"),))]
    )
    named = asked_grammar(EvaluateSection(constrained=True, closed_slots=("drink",)), seen)
    every = asked_grammar(EvaluateSection(constrained=True, closed_slots="all"), seen)
    for drink, size, by_name, by_all in (
        ("mocha", "large", True, True),
        ("mocha", "huge", True, False),
        ("macha", "large", False, False),
    ):
        answer = answer_text(Frame("order", (Slot("drink", drink), Slot("size", size))))
        assert accepts(named.lark, answer) is by_name, answer
        assert accepts(every.lark, answer) is by_all, answer
    with pytest.raises(DataError, match=r"closed_slots.*\n.*drinks: no training row has it. Did you mean 'drink'"):
        asked_grammar(EvaluateSection(constrained=True, closed_slots=("drinks",)), seen)
    for wrong in ({"closed_slots": ("drink",)}, {"constrained": True, "ontology": "o.json", "closed_slots": "all"}):
        with pytest.raises(ValidationError, match="closed_slots"):
            EvaluateSection.model_validate(wrong)


def test_an_ontology_that_allows_no_answer_is_refused():
    seen = seen_in([Frame("a")])
    with pytest.raises(DataError, match="names no intent"):
        answer_grammar(Ontology(), seen)
    with pytest.raises(DataError, match=r"(?s)2 words with half a character.*ud800"):
        answer_grammar(Ontology({"a": None}, {"t": SlotType({"\ud800": None}, {"\udfff": "x"})}), seen)
