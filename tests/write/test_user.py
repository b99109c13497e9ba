"""The user of a dialogue in a language model's words: it means what the annotation means, or the annotation is given."""

from __future__ import annotations

from pathlib import Path

from lalm.records import Clarification, Turn, Utterance
from lalm.write.user import Question, replies

TOLD, ASKED = Turn("narrator", "Tom is black and Kit is white."), Turn("user", "How old is the cat?")
BLACK, WHITE = Turn("user", "The black one.", Path("black.wav"), 1.0), Turn("user", "The white one.")
ROW = Utterance(
    "a", turns=(TOLD, ASKED), clarification=Clarification("Which cat?", ((BLACK, ("two",)), (WHITE, ("six",))))
)


def test_words_that_tell_the_readings_apart_are_taken():
    prompts = []

    def write(asked, max_new_tokens, what):
        prompts.extend(asked)
        return ["I mean the black cat.\nAnything else?", '"The one."', ""]

    asked = [Question(ROW, "Tom or Kit?", 0), Question(ROW, "Tom or Kit?", 0), Question(ROW, "Tom or Kit?", 1)]
    assert replies(asked, write) == [(Turn("user", "I mean the black cat."), True), (BLACK, False), (WHITE, False)]
    for part in (str(TOLD.text), str(ASKED.text), "Tom or Kit?", "The black one."):
        assert part in prompts[0]
    assert "The white one." not in prompts[0]
    assert "The white one." in prompts[2]


def test_a_reply_known_as_a_recording_alone_is_given_as_it_is():
    sound = Turn("user", None, Path("low.wav"), 1.0)
    row = Utterance("a", turns=ROW.turns, clarification=Clarification("Which?", ((sound, ("two",)), (WHITE, ("six",)))))
    assert replies([Question(row, "Which?", 0)], lambda prompts, length, what: ["the low one"]) == [(sound, False)]
