"""Recordings without a transcript put into words, for those who choose among them."""

from __future__ import annotations

from pathlib import Path

from lalm.data.wording import put_into_words
from lalm.records import Frame, Slot, Utterance


def text(words, intent, *slots):
    return Utterance(words, text=words, frame=Frame(intent, tuple(Slot(*slot) for slot in slots)))


def spoken(intent, *slots, **more):
    return Utterance("r", audio=Path("r.wav"), frame=Frame(intent, tuple(Slot(*slot) for slot in slots)), **more)


def worded(row, *written):
    (made,) = put_into_words([row], written)
    assert (made.id, made.audio, made.frame) == (row.id, row.audio, row.frame)
    return made.text


def test_values_stand_in_the_commonest_sentence_of_the_same_intent_and_slot_types():
    written = [
        text("may I have a small mocha", "order", ("size", "small"), ("drink", "mocha")),
        text("give me a large latte please", "order", ("drink", "latte"), ("size", "large")),
        text("give me a small tea please", "order", ("size", "small"), ("drink", "tea")),
        text("a large cake", "bake", ("size", "large"), ("drink", "cake")),
    ]
    row = spoken("order", ("drink", "flat white"), ("size", "medium"))
    assert worded(row, *written) == "give me a medium flat white please"
    assert worded(row, *reversed(written)) == "give me a medium flat white please"


def test_values_of_one_type_come_in_the_order_of_the_label():
    written = text("from Rome to Bonn", "go", ("city", "Rome"), ("city", "Bonn"))
    assert worded(spoken("go", ("city", "Oslo"), ("city", "Kiel")), written) == "from Oslo to Kiel"


def test_a_template_needs_its_values_as_whole_words_in_any_case():
    assert (
        worded(spoken("order", ("drink", "tea")), text("A Mocha, quick", "order", ("drink", "mocha"))) == "A tea, quick"
    )
    for other in (
        text("a steam pot", "order", ("drink", "tea")),
        text("something hot", "order", ("drink", "coffee")),
        text("tea", "order", ("drink", "tea"), ("with", "tea")),
    ):
        assert worded(spoken("order", *((s.type, "milk") for s in other.frame.slots)), other).startswith("order milk")


def test_a_longer_value_is_looked_for_first():
    written = text("coffee, that is iced coffee", "order", ("drink", "coffee"), ("kind", "iced coffee"))
    assert worded(spoken("order", ("drink", "tea"), ("kind", "green tea")), written) == "tea, that is green tea"


def test_where_no_sentence_fits_intent_and_values_are_the_words():
    assert worded(spoken("orderDrink", ("size", "large"), ("drink", "latte"))) == "order drink large latte"
    assert worded(spoken("music_play.now")) == "music play now"
    assert worded(spoken(None, ("drink", "latte"))) == "latte"


def test_what_has_words_keeps_them():
    assert worded(spoken("order", text="as it was said"), text("otherwise", "order")) == "as it was said"
