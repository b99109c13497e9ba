"""Questions by a language model: which are tried, which are kept and why the others fall; the task and the command."""

from __future__ import annotations

import re
from random import Random

import pytest
import torch

from lalm import plugins
from lalm.backbones._tiny import tiny_llama
from lalm.cli import main
from lalm.corpora import dialogues
from lalm.data.manifest import read_manifest, write_manifest
from lalm.errors import DataError
from lalm.records import Turn, Utterance
from lalm.write.questions import _spans, with_questions

TOLD = Turn("narrator", "Marta bought seven green lamps in Lisbon. Her brother sold them.")
TASK = plugins.load("tasks", "generated_questions")


def row(name="a", split="train", **fields):
    return Utterance(name, turns=(TOLD,), question="Who sold them?", answers=("her brother",), split=split, **fields)


class Scripted:
    """A model that asks `question` for every answer, and answers with and without the text as it is told to."""

    def __init__(self, question="Which is the word?", heard=None, unheard="nothing"):
        self.question, self.heard, self.unheard, self.prompts = question, heard, unheard, []
        self.wanted = ""

    def __call__(self, prompts, max_new_tokens, what=""):
        self.prompts += prompts
        return [self.say(prompt) for prompt in prompts]

    def say(self, prompt):
        wanted = re.search(r'whose answer is "(.*)"\.', prompt)
        if wanted:
            self.wanted = wanted[1]
            return self.question.format(wanted[1]) + "\nThat is all."
        told = prompt.startswith("Text: ")
        return (self.wanted if self.heard is None else self.heard) if told else self.unheard


def test_a_question_that_the_text_alone_answers_is_kept():
    write = Scripted()
    (found, spare), fates = with_questions([row(), row("b", split="test")], write, 1, 0, "me (mit)")
    (made,) = found.meta["generated_questions"]
    assert fates == {"kept": 1}
    assert made == {"question": "Which is the word?", "answer": write.wanted, "made_by": "me (mit)"}
    assert made["answer"] in TOLD.text
    assert spare == row("b", split="test"), "test rows are handed on as they are"
    ask, told, untold = write.prompts
    assert f"Text: {TOLD.text}" in ask
    assert told == f"Text: {TOLD.text}\n\nQuestion: Which is the word?\nAnswer with as few words as possible."
    assert untold == "Question: Which is the word?\nAnswer with as few words as possible."


@pytest.mark.parametrize(
    ("write", "fate"),
    [
        (Scripted("Tell me about it."), "no question"),
        (Scripted("Why?"), "no question"),
        (Scripted("Is it {} or something else?"), "gives the answer away"),
        (Scripted("who sold THEM?"), "asked before"),
        (Scripted(heard="a bicycle"), "answered otherwise"),
    ],
)
def test_others_fall_for_a_reason(write, fate):
    (found,), fates = with_questions([row()], write, 1, 0, "me")
    assert fates == {fate: 1}
    assert "generated_questions" not in found.meta


def test_what_one_knows_without_listening_falls():
    class Knowing(Scripted):
        def say(self, prompt):
            said = super().say(prompt)
            return self.wanted if prompt.startswith("Question: ") else said

    assert with_questions([row()], Knowing(), 1, 0, "me")[1] == {"known without listening": 1}


def test_answers_are_telling_stretches_of_one_sentence_drawn_with_the_seed():
    spans = _spans(str(TOLD.text))
    assert {"Marta", "Marta bought", "seven green lamps", "brother sold them"} <= set(spans)
    assert not any("." in span or span.startswith("in ") or span.endswith(" in") for span in spans)
    assert _spans("The lamp, the lamp and 12 cats.") == ["12", "cats", "12 cats", "lamp and 12"], "`lamp` is said twice"
    rows = [row(str(number)) for number in range(4)]
    drawn = [[d["answer"] for d in drafts_of(rows, seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == len(drawn[0]) == 8, "no answer twice of a passage"


def drafts_of(rows, seed):
    number = iter(range(100))

    class Counting(Scripted):
        def say(self, prompt):
            if "whose answer is" in prompt:
                self.answers = [*getattr(self, "answers", []), re.search(r'whose answer is "(.*)"\.', prompt)[1]]
                return f"Which is number {next(number)} then?"
            if not prompt.startswith("Text: "):
                return "nothing"
            asked = int(re.search(r"number (\d+)", prompt)[1])
            return self.answers[asked]

    found, _ = with_questions(rows, Counting(), 2, seed, "me")
    return [one for each in found for one in each.meta["generated_questions"]]


def test_the_task_asks_after_the_passage():
    asked = [{"question": "What did Marta buy?", "answer": "seven green lamps"}]
    item = row(meta={"generated_questions": asked})
    (made,) = TASK.examples(item, TASK.Config(), Random(0))
    assert made.turns == (TOLD, Turn("user", "What did Marta buy?"))
    assert (made.answer, made.answers, made.task, made.id) == (
        "seven green lamps",
        ("seven green lamps",),
        "generated_questions",
        "a",
    )
    assert TASK.examples(row(), TASK.Config(), Random(0)) == []
    two = TASK.examples(row(meta={"generated_questions": asked * 2}), TASK.Config(), Random(0))
    assert [one.id for one in two] == ["a/generated_questions/0", "a/generated_questions/1"]
    for bad in ([{"question": "Why?"}], ["Why?"], [{"question": "Why?", "answer": " "}]):
        with pytest.raises(DataError, match=r"row 'a': 'meta.generated_questions\[0\]' is"):
            TASK.examples(row(meta={"generated_questions": bad}), TASK.Config(), Random(0))
    with pytest.raises(DataError, match="is no list"):
        TASK.examples(row(meta={"generated_questions": "Why?"}), TASK.Config(), Random(0))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("model")
    for part in tiny_llama():
        part.save_pretrained(root)
    return root


def test_the_command_writes_all_rows_and_says_what_fell(tmp_path, model, capsys):
    out = tmp_path / "more.jsonl"
    (tmp_path / "text").mkdir()
    dialogues.make_tiny(tmp_path / "text", 0)
    command = ["data", "questions", "--corpus", "dialogues", "--root", str(tmp_path / "text"), "--model", str(model)]
    assert main([*command, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "2 drafts by" in said
    assert "0 kept" in said  # weights drawn at random ask nothing
    assert "left out: 2 no question" in said
    assert "6 rows. None has a question: take a larger model" in said
    assert len(read_manifest(out)) == 6
    assert main([*command, "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([*command, "--per-row", "0", "--out", str(tmp_path / "other.jsonl")]) == 2
    assert "--per-row 0" in capsys.readouterr().err


def test_rows_without_a_passage_are_an_error(tmp_path, model, capsys):
    write_manifest(tmp_path / "manifest.jsonl", [Utterance("a", text="hello", split="train")])
    out = tmp_path / "out.jsonl"
    assert main(["data", "questions", str(tmp_path / "manifest.jsonl"), "--model", str(model), "--out", str(out)]) == 2
    assert "no passage to ask about" in capsys.readouterr().err
    assert not out.exists()
