"""Tasks over single utterances: their answers are held against the row that they are made of."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from lalm import plugins
from lalm.data.labels import answer_text, read_answer
from lalm.records import Example, Frame, Slot, Turn, Utterance

SPOKEN = Utterance(
    "o-1",
    text="a large latte please",
    audio=Path("o-1.wav"),
    frame=Frame("orderDrink", (Slot("size", "large"), Slot("coffeeDrink", "latte"))),
    language="en",
)
WRITTEN = Utterance("o-2", text="cancel that", frame=Frame("cancel"), language="de")
UNHEARD = Utterance("o-3", audio=Path("o-3.wav"), frame=Frame(None, (Slot("size", "small"),)))
UNLABELLED = Utterance("o-4", text="hm")
DIALOGUE = Utterance("d-1", turns=(Turn("user", "Where is Tom?"),), answers=("here",), frame=Frame("ask"))


def made(task: str, item: Utterance, **options) -> list[Example]:
    module = plugins.load("tasks", task)
    return module.examples(item, plugins.configure(module, options, "task"), Random(0))


def test_transcribing_gives_the_words_of_the_transcript():
    (spoken,) = made("transcribe", SPOKEN)
    assert (spoken.answer, spoken.audio, spoken.answers) == (SPOKEN.text, SPOKEN.audio, (SPOKEN.text,))
    assert spoken.modality == "speech"
    (written,) = made("transcribe", WRITTEN)
    assert (written.answer, written.modality, written.language) == ("cancel that", "text", "de")
    assert made("transcribe", WRITTEN, written=False) == []
    assert made("transcribe", SPOKEN, written=False) == [spoken]
    assert made("transcribe", UNHEARD) == [], "there is no transcript to learn from"


@pytest.mark.parametrize("item", [SPOKEN, WRITTEN])
def test_intent_and_slots_together_are_what_slu_teaches(item):
    (intent,), (slots,), (whole,) = (made(task, item) for task in ("intent_only", "slots_only", "slu"))
    assert {**json.loads(intent.answer), **json.loads(slots.answer)} == json.loads(whole.answer)
    assert whole.answer == answer_text(item.frame)
    assert whole.answer.startswith(intent.answer[:-1]), "one begins like the other"
    for one in (intent, slots):
        assert one.audio == item.audio
        assert one.text == item.text
        assert read_answer(one.answer) == one.frame


def test_rows_that_lack_what_is_asked_for_are_left_out():
    assert made("intent_only", UNHEARD) == []
    assert json.loads(made("slots_only", UNHEARD)[0].answer) == {"slots": [{"size": "small"}]}
    assert json.loads(made("slots_only", WRITTEN)[0].answer) == {"slots": []}
    for task in ("intent_only", "slots_only"):
        assert made(task, UNLABELLED) == []


@pytest.mark.parametrize("task", ["transcribe", "intent_only", "slots_only", "slu"])
def test_rows_with_turns_are_not_for_them(task):
    assert made(task, DIALOGUE) == []


@pytest.mark.parametrize("task", ["transcribe", "intent_only", "slots_only", "slu"])
def test_a_single_example_bears_the_name_of_its_row_and_of_its_task(task):
    (one,) = made(task, SPOKEN)
    assert (one.id, one.task) == (SPOKEN.id, task)
