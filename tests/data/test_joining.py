"""Sentences joined of written rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lalm.data.joining import joined
from lalm.data.pools import load_pools
from lalm.records import Frame, Slot, Utterance
from lalm.rundir import write_jsonl
from lalm.sections import DataSection, JoinSection


def row(name: str, text: str, intent: str = "order", **slots: str) -> Utterance:
    return Utterance(id=name, text=text, frame=Frame(intent, tuple(Slot(k, v) for k, v in slots.items())))


ROWS = [
    row("a", "a dark roast triple shot latte please", roast="dark roast", shots="triple shot", drink="latte"),
    row("b", "give me a single shot espresso", shots="single shot", drink="espresso"),
    row("c", "an iced large mocha", size="large", drink="mocha"),
    row("d", "the dark roast light is broken", intent="complain", thing="light"),
]


def test_a_value_is_put_where_another_sentence_has_it_and_brings_its_slot() -> None:
    made = joined(ROWS, JoinSection(copies=20, max_inserted=2))
    texts = {one.text: one.frame for one in made}
    assert texts["give me a dark roast single shot espresso"] == Frame(
        "order", (Slot("roast", "dark roast"), Slot("shots", "single shot"), Slot("drink", "espresso"))
    )
    assert "a dark roast triple shot large latte please" in texts


def test_every_slot_stands_in_its_sentence_once_and_in_the_order_of_the_frame() -> None:
    made = joined(ROWS, JoinSection(copies=20, max_inserted=3))
    assert len(made) >= 5
    for one in made:
        places = [str(one.text).index(slot.value) for slot in one.frame.slots]
        assert places == sorted(places)
        assert all(str(one.text).count(slot.value) == 1 for slot in one.frame.slots)
        assert len({slot.type for slot in one.frame.slots}) == len(one.frame.slots)


def test_other_intents_lend_nothing_and_nothing_stands_twice() -> None:
    made = joined(ROWS, JoinSection(copies=20))
    assert not [one for one in made if one.id.startswith("d/")]
    texts = [one.text for one in [*ROWS, *made]]
    assert len(set(texts)) == len(texts)
    assert len({one.id for one in made}) == len(made)


def test_the_article_fits_the_word_that_follows_it() -> None:
    rows = [
        row("a", "I want an eight ounce double shot latte", size="eight ounce", shots="double shot", drink="latte"),
        row("b", "I want a single shot espresso", shots="single shot", drink="espresso"),
    ]
    assert "I want an eight ounce single shot espresso" in {one.text for one in joined(rows, JoinSection(copies=20))}


def test_other_languages_have_no_english_articles() -> None:
    rows = [
        row("a", "llama a pedro", who="pedro"),
        row("b", "llama estación pedro", place="estación", who="pedro"),
    ]
    spanish = [replace(one, language="es") for one in rows]
    assert "llama a estación pedro" in {one.text for one in joined(spanish, JoinSection(copies=20))}
    assert "llama an estación pedro" in {one.text for one in joined(rows, JoinSection(copies=20))}, "as English has it"


@pytest.mark.parametrize(
    "unfit",
    [
        row("x", "a latte and a latte", drink="latte"),
        row("x", "whole milk", milk="whole milk", kind="milk"),
        row("x", "a big one", drink="latte"),
        row("x", "hello"),
    ],
    ids=["said twice", "within another", "not said", "no slots"],
)
def test_rows_whose_slots_are_not_apart_in_their_words_are_left_alone(unfit: Utterance) -> None:
    assert not [one for one in joined([*ROWS, unfit], JoinSection(copies=20)) if one.id.startswith("x/")]


def test_the_same_seed_makes_the_same_sentences_whatever_else_there_is() -> None:
    once = joined(ROWS, JoinSection(copies=2))
    assert once == joined(ROWS, JoinSection(copies=2))
    assert {one.text for one in once} != {one.text for one in joined(ROWS, JoinSection(copies=2, seed=1))}


def test_a_share_of_the_rows_is_joined_and_the_same_sentences_are_made_of_them() -> None:
    many = [
        replace(one, id=f"{one.id}{number}", text=f"{one.text} {number}") for one in ROWS[:2] for number in range(200)
    ]
    every, some = joined(many, JoinSection()), joined(many, JoinSection(share=0.25))
    assert {one.id for one in some} < {one.id for one in every}
    assert 0.18 < len(some) / len(every) < 0.32
    assert set(map(repr, some)) <= set(map(repr, every))


def test_a_recipe_adds_them_to_the_text_and_to_nothing_else(tmp_path: Path) -> None:
    rows = [{"id": one.id, "text": one.text, **one.frame.to_json(), "split": "train"} for one in ROWS]
    rows.append({"id": "t", "text": "give me a latte", "intent": "order", "slots": [], "split": "test"})
    write_jsonl(tmp_path / "manifest.jsonl", rows)
    data = {"corpus": {"name": "jsonl"}, "root": tmp_path, "speech_share": 0}
    plain = load_pools(DataSection.model_validate(data))
    more = load_pools(DataSection.model_validate({**data, "join_text": {"copies": 3}}))
    assert more.text[: len(ROWS)] == plain.text
    assert more.text[len(ROWS) :] == joined(plain.text, JoinSection(copies=3)) != []
    assert more.test == plain.test
