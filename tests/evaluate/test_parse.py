"""Answers read back: what is well-formed comes back equal, what is not is repaired by a stated rule or fails."""

from __future__ import annotations

import json
import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lalm import plugins
from lalm.data.labels import answer_text
from lalm.evaluate.parse import parse_answer
from lalm.evaluate.predict import prediction_row
from lalm.records import Frame, Slot, Utterance

ORDER = Frame("orderDrink", (Slot("size", "large"), Slot("drink", "flat white")))
WRITTEN = answer_text(ORDER)

words = st.text(st.characters(codec="utf-8"), max_size=12)
frames = st.builds(Frame, st.none() | words, st.lists(st.builds(Slot, words, words), max_size=4).map(tuple))
# pieces of answers in any order come nearer to real mistakes than random characters do
PIECES = '{"intent": ~"orderDrink"~, "slots": ~[~]~{~}~"size"~: ~"large"~,~\\~"~12~null~true~NaN~-~\n~```json~\\ud800~{"type": "a", "value": "b"}~"scenario"~é'
pieces = st.lists(st.sampled_from(PIECES.split("~")), max_size=30).map("".join)


@given(frames)
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read_back_equal(frame: Frame):
    assert parse_answer(answer_text(frame)) == (frame, "ok")
    assert parse_answer(f"\n {answer_text(frame)} \n") == (frame, "ok")


@given(st.text() | pieces)
@settings(max_examples=600, deadline=1000)
def test_it_never_raises_and_says_how_it_read(raw: str):
    frame, status = parse_answer(raw)
    assert (frame is None) == (status == "failed")
    assert status in ("ok", "repaired", "failed")
    if frame is not None:
        json.dumps(frame.to_json(), ensure_ascii=False).encode()  # it can be written to a predictions file


@given(frames.filter(lambda frame: frame.intent is not None), st.data())
@settings(max_examples=300, deadline=None)
def test_a_cut_off_answer_gives_no_slot_that_was_not_said(frame: Frame, data: st.DataObject):
    written = answer_text(frame)
    cut = written[: data.draw(st.integers(0, len(written) - 1))]
    found, status = parse_answer(cut)
    assert status in ("repaired", "failed")
    if found is not None:
        assert found.intent == frame.intent
        assert found.slots == frame.slots[: len(found.slots)], "a beginning of the slots, each of them whole"


@pytest.mark.parametrize(
    "raw", ["{" * 100_000, "[" * 100_000, '{"a":' * 20_000, '{"intent": "a", "slots": [' + '{"x": "y"},' * 20_000]
)
def test_long_nonsense_takes_no_time(raw: str):
    started = time.perf_counter()
    parse_answer(raw)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("raw", "frame"),
    [
        # cut off: closed after the last finished part
        (WRITTEN[:-1], ORDER),
        (WRITTEN[:-2], ORDER),
        (WRITTEN[:-3], ORDER),
        (WRITTEN[:-4], Frame("orderDrink", ORDER.slots[:1])),
        ('{"intent": "orderDrink", "slots": [{"size": "lar', Frame("orderDrink")),
        ('{"intent": "orderDrink", "slots": [{"size"', Frame("orderDrink")),
        ('{"intent": "orderDrink"', Frame("orderDrink")),
        ('{"intent": "a", "slots": [{"n": 12}, {"m": 3', Frame("a", (Slot("n", "12"),))),
        # talk around it
        (f"Sure! ```json\n{WRITTEN}\n```", ORDER),
        (f"{WRITTEN} {WRITTEN}", ORDER),
        (f"[{WRITTEN}]", ORDER),
        # slots written in another way
        (
            '{"intent": "a", "slots": {"size": "large", "shots": 2}}',
            Frame("a", (Slot("size", "large"), Slot("shots", "2"))),
        ),
        ('{"intent": "a", "slots": [{"type": "size", "value": "large"}]}', Frame("a", (Slot("size", "large"),))),
        ('{"intent": "a"}', Frame("a")),
        ('{"intent": "a", "slots": [], "note": "x"}', Frame("a")),
        # the study's own format, and SLURP's
        (
            '{"scenario": "alarm", "action": "set", "entities": [{"time": "seven"}, {"date": "today"}]}',
            Frame("alarm_set", (Slot("time", "seven"), Slot("date", "today"))),
        ),
        (
            '{"scenario": "alarm", "action": "set", "entities": [{"type": "time", "filler": "seven"}]}',
            Frame("alarm_set", (Slot("time", "seven"),)),
        ),
        ('{"scenario": "alarm", "action": "set", "entities": []}', Frame("alarm_set")),
    ],
)
def test_repairs(raw: str, frame: Frame):
    assert parse_answer(raw) == (frame, "repaired")


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "I am sorry, I did not hear that.",
        "null",
        '"orderDrink"',
        '{"intent": "orderDr',  # an unfinished intent is not guessed
        '{"slots": [{"size": "large"}]}',
        '{"intent": 3, "slots": []}',
        '{"intent": "a", "intent": "b", "slots": []}',  # which one?
        '{"intent": "\\ud800", "slots": []}',  # half a character could not be written down
        '{"scenario": "alarm", "entities": []}',
    ],
)
def test_what_holds_no_frame_fails(raw: str):
    assert parse_answer(raw) == (None, "failed")


@pytest.mark.parametrize(
    "raw",
    [
        '{"intent": "a", "slots": [{"size": ["large"]}]}',
        '{"intent": "a", "slots": [["size", "large"]]}',
        '{"intent": "a", "slots": "size large"}',
        '{"intent": "a", "slots": [{"size": "large"}}, {"x": "y"}]}',
    ],
    ids=["a list as value", "a list as slot", "words", "brackets that do not match"],
)
def test_slots_that_cannot_be_read_are_not_taken_for_none(raw: str):
    """To name nothing may be right, so what was named and cannot be read must not become that."""
    assert parse_answer(raw) == (None, "failed")


@pytest.mark.parametrize("task", ["slu", "slots_only", "intent_only", "xs_cot"])
def test_what_a_task_teaches_is_read_as_it_stands(task: str):
    module = plugins.load("tasks", task)
    for frame in (ORDER, Frame("stop")):
        (taught,) = module.examples(Utterance("1", "a flat white", frame=frame), module.Config(), Random(0))
        row = prediction_row(taught, taught.answer, 0.1)
        assert (row["status"], row["prediction"]) == ("ok", row["gold"])
