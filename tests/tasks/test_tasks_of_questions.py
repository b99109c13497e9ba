"""Tasks over passages and dialogues: every answer is checked against the row in another way than it was made."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from lalm import plugins
from lalm.records import Clarification, Example, Turn, Utterance

STORY = (
    "Mia has two cats named Tom and Kit. The black one sleeps in the kitchen all day. "
    "Her brother brings seven fish on Sunday, and the garden is quiet."
)
CLEAR = Utterance(
    "s-1",
    turns=(
        Turn("narrator", STORY, Path("n.wav"), 9.0),
        Turn("user", "Where does the black cat sleep?", Path("u1.wav"), 2.0),
        Turn("assistant", "In the kitchen.", Path("a1.wav"), 1.0),
        Turn("user", "Who brings fish?", Path("u2.wav"), 1.0),
    ),
    answers=("the brother", "Her brother"),
)
AMBIGUOUS = Utterance(
    "s-2",
    turns=(Turn("narrator", STORY, Path("n.wav"), 9.0), Turn("user", "What is it called?", Path("u3.wav"), 1.0)),
    answers=("Tom",),
    clarification=Clarification(
        "Which cat do you mean.",
        (
            (Turn("user", "The black one.", Path("r1.wav")), ("Tom",)),
            (Turn("user", "The white one."), ("Kit", "Kit the cat")),
        ),
    ),
)
WRITTEN_QUESTION = Utterance(
    "s-3",
    turns=(Turn("narrator", STORY, Path("n.wav"), 9.0),),
    context="Mia lives in Bergen.",
    question="How many fish are there?",
    answers=("seven",),
)
SINGLE = Utterance("u-1", text="turn the kitchen lights off at seven", audio=Path("u.wav"))
ROWS = (CLEAR, AMBIGUOUS, WRITTEN_QUESTION, SINGLE)
TASKS = ("answer", "response_generation", "listening_comprehension", "commonsense_reasoning")


def made(task: str, item: Utterance, seed: int = 0, others=(), **options) -> list[Example]:
    module = plugins.load("tasks", task)
    cfg = plugins.configure(module, options, "task")
    known = (module.survey(others, cfg),) if others and hasattr(module, "survey") else ()
    return module.examples(item, cfg, Random(seed), *known)


def said(turns) -> str:
    return " ".join(turn.text or "" for turn in turns)


def without_recordings(item: Utterance) -> Utterance:
    return replace(item, audio=None, turns=tuple(replace(turn, audio=None) for turn in item.turns))


# -- answers -----------------------------------------------------------------------------------------------------------


def test_a_clear_question_is_one_example_with_the_turns_as_they_are():
    (one,) = made("answer", CLEAR)
    assert (one.id, one.turns, one.answers) == ("s-1", CLEAR.turns, CLEAR.answers)
    assert one.answer == "Her brother", "of the right answers the one that is said"
    assert (one.text, one.audio) == (None, None)
    assert made("answer", CLEAR, span=False)[0].answer == "the brother"


def test_context_and_written_questions_stand_as_written_turns():
    (one,) = made("answer", WRITTEN_QUESTION)
    assert one.turns == (
        Turn("narrator", "Mia lives in Bergen."),
        *WRITTEN_QUESTION.turns,
        Turn("user", "How many fish are there?"),
    )
    assert one.recordings == (Path("n.wav"),)


def test_an_ambiguous_question_is_answered_once_it_is_made_clear():
    black, white = made("answer", AMBIGUOUS)
    for one, (reply, answers) in zip((black, white), AMBIGUOUS.clarification.replies, strict=True):
        assert one.turns == (*AMBIGUOUS.turns, Turn("assistant", "Which cat do you mean."), reply)
        assert one.answers == answers
        assert one.answer in answers
    assert black.id != white.id


def test_the_response_asks_back_exactly_where_the_request_is_ambiguous():
    (clear,) = made("response_generation", CLEAR)
    assert (clear.answer, clear.ambiguous, clear.id) == ("the brother", False, "s-1")
    asking, *replied = made("response_generation", AMBIGUOUS)
    assert (asking.answer, asking.answers) == ("Which cat do you mean?", ("Which cat do you mean?",))
    assert asking.ambiguous is True
    assert asking.id == "s-2", "the row's own example comes first"
    assert [(one.answer, one.ambiguous, one.turns[-1].text) for one in replied] == [
        ("Tom", False, "The black one."),
        ("Kit", False, "The white one."),
    ]
    assert len({one.id for one in (asking, *replied)}) == 3
    assert made("response_generation", AMBIGUOUS, after_reply=False) == [asking]


# -- listening ---------------------------------------------------------------------------------------------------------


def asked_of(item: Utterance, kind: str, seeds=range(40), **options):
    for seed in seeds:
        for one in made("listening_comprehension", item, seed, kinds=[kind], **options):
            yield one, one.turns[-1].text or ""


@pytest.mark.parametrize("item", ROWS, ids=lambda item: item.id)
def test_a_gap_filled_with_its_answer_gives_the_transcript_back(item):
    seen = set()
    for one, question in asked_of(item, "cloze"):
        gapped = re.search(r'"(.*)"', question)[1]
        assert gapped.count("___") == 1
        assert gapped.replace("___", one.answer) in said(one.turns[:-1])
        assert one.answer.casefold() not in re.findall(r"\w+", gapped.casefold()), "the answer is not given away"
        seen.add(one.answer)
    assert len(seen) > 2


@pytest.mark.parametrize("item", ROWS, ids=lambda item: item.id)
def test_the_order_asked_for_is_that_of_the_transcript(item):
    shown_in_order = 0
    for one, question in asked_of(item, "order"):
        words = one.answer.split(", ")
        shown = re.search(r"said: (.*)\?", question)[1].split(", ")
        assert sorted(shown) == sorted(words)
        assert len(set(words)) == len(words) >= 2
        transcript = re.findall(r"\w[\w'’-]*", said(one.turns[:-1]))
        places = [transcript.index(word) for word in words]
        assert places == sorted(places)
        assert all(transcript.count(word) == 1 for word in words)
        shown_in_order += shown == words
    assert 0 < shown_in_order < 30, "the words are shuffled"


@pytest.mark.parametrize("item", [CLEAR, AMBIGUOUS], ids=lambda item: item.id)
def test_who_says_it_is_the_one_whose_turns_hold_it_and_no_other(item):
    speakers = set()
    for one, question in asked_of(item, "speaker"):
        quote = re.search(r'"(.*)"', question)[1]
        assert {turn.role for turn in item.turns if quote in turn.text} == {one.answer}
        speakers.add(one.answer)
    assert speakers == {turn.role for turn in item.turns}


def test_a_turn_is_written_down_word_for_word():
    for one, question in asked_of(CLEAR, "transcript"):
        number, role = re.search(r"turn (\d), by the (\w+)", question).groups()
        turn = one.turns[int(number) - 1]
        assert (turn.text, turn.role) == (one.answer, role)
    numbers = {question for _, question in asked_of(CLEAR, "transcript", max_words=5)}
    assert numbers == {
        "Write down turn 3, by the assistant, word for word.",
        "Write down turn 4, by the user, word for word.",
    }
    ((one, question),) = asked_of(SINGLE, "transcript", seeds=[0])
    assert (question, one.answer) == ("Write down what is said, word for word.", SINGLE.text)


def test_kinds_that_a_row_is_too_short_for_and_rows_without_words_are_left_out():
    assert {
        kind for kind in ("speaker", "cloze", "order") if list(asked_of(replace(SINGLE, text="off"), kind))
    } == set()
    assert made("listening_comprehension", replace(SINGLE, text=None)) == []
    unknown = replace(CLEAR, turns=(replace(CLEAR.turns[0], text=None), *CLEAR.turns[1:]))
    assert made("listening_comprehension", unknown) == []
    assert len(made("listening_comprehension", CLEAR)) == 4
    assert len(made("listening_comprehension", SINGLE)) == 3, "one speaks alone"


# -- reasoning ---------------------------------------------------------------------------------------------------------


def statements(question: str) -> dict[str, str]:
    return dict(re.findall(r'\((\w)\) The answer is "(.*?)"\.', question))


def test_the_statement_that_follows_is_right_and_the_one_that_contradicts_is_wrong():
    letters = {"follows": set(), "contradicts": set()}
    for seed in range(30):
        for kind, verb in (("follows", "follows from"), ("contradicts", "contradicts")):
            (one,) = made("commonsense_reasoning", CLEAR, seed, ROWS, kinds=[kind])
            question = one.turns[-1].text
            assert f"Which statement {verb} what is said?" in question
            chosen = statements(question)
            assert (chosen[one.answer] in CLEAR.answers) == (kind == "follows")
            (other,) = (text for letter, text in chosen.items() if letter != one.answer)
            assert (other in CLEAR.answers) != (kind == "follows")
            letters[kind].add(one.answer)
    assert letters == {"follows": {"A", "B"}, "contradicts": {"A", "B"}}, "both letters are right at times"


def test_wrong_answers_come_from_the_same_passage_if_there_are_any():
    elsewhere = [
        replace(CLEAR, id=f"x-{i}", turns=(Turn("narrator", "Else."),), answers=(f"no {i}",)) for i in range(9)
    ]
    drawn = {
        text
        for seed in range(30)
        for one in made("commonsense_reasoning", CLEAR, seed, [*elsewhere, AMBIGUOUS, CLEAR], kinds=["follows"])
        for letter, text in statements(one.turns[-1].text).items()
        if letter != one.answer
    }
    assert drawn == {"Tom"}
    near = [replace(CLEAR, answers=("brother",)), replace(CLEAR, answers=("her BROTHER!",))]
    assert made("commonsense_reasoning", CLEAR, 0, near, kinds=["follows"]) == [], (
        "what is within an answer is not wrong"
    )


def test_why_a_request_is_ambiguous_is_what_the_user_may_reply():
    (yes,) = made("commonsense_reasoning", AMBIGUOUS, 0, ROWS)
    assert yes.answer == 'Yes, it may mean: "The black one" or "The white one"'
    rows = [AMBIGUOUS, *(replace(CLEAR, id=f"c-{i}") for i in range(10))]
    no = [made("commonsense_reasoning", row, i, rows, kinds=["ambiguous"]) for i, row in enumerate(rows * 60)]
    answers = [one.answer for found in no for one in found]
    assert answers.count("No, it is clear.") == pytest.approx(60, abs=25), "as many as are ambiguous"
    assert sum(answer.startswith("Yes") for answer in answers) == 60
    assert made("commonsense_reasoning", CLEAR, 0, [CLEAR], kinds=["ambiguous"]) == [], "else all answers would be no"


# -- all of them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_gives_the_same_examples_and_another_one_others(task):
    first, again, other = ([made(task, row, seed, ROWS) for row in ROWS] for seed in (3, 3, 4))
    assert first == again
    assert (first != other) == (task in ("listening_comprehension", "commonsense_reasoning"))
    for row, examples in zip(ROWS, first, strict=True):
        assert len({one.id for one in examples}) == len(examples)
        assert all(one.task == task and one.answer and one.id.startswith(row.id) for one in examples)
        assert all(one.turns[-1].role == "user" for one in examples)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("item", ROWS, ids=lambda item: item.id)
def test_the_written_twin_of_a_row_has_the_same_questions_and_answers(task, item):
    spoken, written = made(task, item, 1, ROWS), made(task, without_recordings(item), 1, ROWS)
    assert [one.answer for one in spoken] == [one.answer for one in written]
    assert [said(one.turns) for one in spoken] == [said(one.turns) for one in written]


@pytest.mark.parametrize("task", ["answer", "response_generation", "commonsense_reasoning"])
def test_rows_without_a_request_or_without_an_answer_are_left_out(task):
    assert made(task, SINGLE, 0, ROWS) == []
    assert made(task, replace(CLEAR, answers=()), 0, ROWS) == []
    assert made(task, replace(CLEAR, turns=CLEAR.turns[:3]), 0, ROWS) == [], "the assistant has spoken last"


def test_no_task_needs_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from lalm import plugins\n"
        "assert all(plugins.load('tasks', name).Config() for name in plugins.names('tasks'))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
