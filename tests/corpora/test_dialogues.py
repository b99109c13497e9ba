"""Dialogues with ambiguous requests: the set that comes along, Abg-CoQA's layout, and what is said of malformed ones."""

from __future__ import annotations

import copy
import json
import math
import re
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from lalm.corpora import ask_qa, dialogues, jsonl
from lalm.data.dialogue_checks import dialogue_problems, stands_in
from lalm.data.manifest import read_manifest, write_manifest
from lalm.errors import DataError
from lalm.records import Turn, Utterance

SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def shipped():
    """The shipped requests by split, as read by the plug-in."""
    return {split: list(dialogues.read(dialogues.FOLDER, split, dialogues.Config())) for split in SPLITS}


@pytest.fixture(scope="module")
def passages():
    """The shipped passages, line by line, read by nothing of ours."""
    return [json.loads(line) for line in (dialogues.FOLDER / dialogues.FILE).read_text(encoding="utf-8").splitlines()]


# -- the shipped set -------------------------------------------------------------------------------------------------


def test_the_card_states_what_is_there(shipped, passages):
    card = (dialogues.FOLDER / "README.md").read_text(encoding="utf-8")
    of_split = Counter(passage["split"] for passage in passages)
    for split, rows in shipped.items():
        asked = sum(row.clarification is not None for row in rows)
        turns = Counter(sum(turn.role == "assistant" for turn in row.turns) for row in rows)
        line = f"| {split} | {of_split[split]} | {len(rows)} | {asked} | {len(rows) - asked} | {turns[1]}, {turns[2]}, {turns[3]} |"
        assert line in card
    assert f"{twice(shipped)} requests stand twice" in card
    assert len(passages) >= 60


def twice(shipped):
    """Requests that are ambiguous after one history and clear after another, in the same words about their passage."""
    kinds = defaultdict(set)
    for row in (row for rows in shipped.values() for row in rows):
        kinds[row.meta["passage"], row.turns[-1].text].add(row.clarification is None)
    return sum(len(found) == 2 for found in kinds.values())


def test_passages_are_short_distinct_and_in_one_split(passages):
    assert (
        len({passage["story"] for passage in passages}) == len({passage["id"] for passage in passages}) == len(passages)
    )
    assert all(40 <= len(passage["story"].split()) <= 90 for passage in passages)
    assert not any(re.search(r"\d", passage["story"]) for passage in passages), "numbers as they are said"
    assert len({passage["topic"] for passage in passages}) >= 12


def test_requests_are_dialogues_of_one_to_three_turns(shipped):
    for row in (row for rows in shipped.values() for row in rows):
        roles = [turn.role for turn in row.turns]
        assert roles == ["narrator", *["user", "assistant"] * ((len(roles) - 2) // 2), "user"]
        assert 4 <= len(roles) <= 8
        assert not row.recordings
        assert (row.clarification is None) == bool(row.answers)


def test_clear_answers_are_in_the_passage_and_ambiguous_ones_differ(shipped):
    free = 0
    for row in (row for rows in shipped.values() for row in rows):
        story = " ".join(row.turns[0].text.lower().split())
        for answers in (
            [row.answers] if row.clarification is None else [right for _, right in row.clarification.replies]
        ):
            found = any(answer.lower() in story for answer in answers)
            assert found or not row.meta["span"], row.id
        free += not row.meta["span"]
        if row.clarification is not None:
            assert row.clarification.question.endswith("?")
            right = [set(map(str.lower, answers)) for _, answers in row.clarification.replies]
            assert len(right) in (2, 3)
            assert all(not a & b for i, a in enumerate(right) for b in right[:i]), row.id
    assert free == 5  # the README says so


def test_ambiguity_is_not_given_away_by_the_length_of_the_history(shipped):
    """The better of two guesses by length alone is hardly better than always saying "clear"."""
    rows = [row for found in shipped.values() for row in found]
    kinds = Counter((len(row.turns), row.clarification is None) for row in rows)
    best = sum(max(kinds[length, True], kinds[length, False]) for length in {length for length, _ in kinds})
    clear = sum(row.clarification is None for row in rows)
    assert best / len(rows) < clear / len(rows) + 0.05


def test_ambiguity_is_not_given_away_by_words(shipped):
    """Naive Bayes over words, worked out here, is what the card says, and worse than always saying "clear"."""
    card = (dialogues.FOLDER / "README.md").read_text(encoding="utf-8")
    held_out = shipped["dev"] + shipped["test"]
    of_request = right_by_words(shipped["train"], held_out, lambda row: words(row.turns[-1]))
    with_answer = right_by_words(
        shipped["train"], held_out, lambda row: [*words(row.turns[-1]), *(f"before {w}" for w in words(row.turns[-2]))]
    )
    clear = sum(row.clarification is None for row in held_out) / len(held_out)
    assert f"in {of_request:.0%} of the {len(held_out)} requests".replace("%", " %") in card
    assert f"last answer in {with_answer:.0%}.".replace("%", " %") in card
    assert f'Always saying "clear" is right in {clear:.0%}.'.replace("%", " %") in card
    assert max(of_request, with_answer) < clear


def words(turn):
    return sorted(set(re.findall(r"\w+", turn.text.lower())))


def right_by_words(train, test, features):
    """The share of `test` that naive Bayes (Bernoulli, add-one, words that are there alone) tells rightly."""
    rows, counts = Counter(row.clarification is None for row in train), {True: Counter(), False: Counter()}
    for row in train:
        counts[row.clarification is None].update(features(row))
    found = 0
    for row in test:
        score = {
            kind: math.log(rows[kind]) + sum(math.log((counts[kind][w] + 1) / (rows[kind] + 2)) for w in features(row))
            for kind in counts
        }
        found += (score[True] > score[False]) == (row.clarification is None)
    return found / len(test)


# -- malformed passages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda p: p["turns"][2].update(history=[1, 3]),
            "row 'cats-train-0-3' .*refers to turn 3, which is the request itself",
        ),
        (
            lambda p: p["turns"][1].update(history=[3]),
            "row 'cats-train-0-2' .*turn 3, which is not among the turns before it",
        ),
        (
            lambda p: p["turns"][2].update(history=[2, 1]),
            r"row 'cats-train-0-3' .*history \[2, 1\], which does not go forward",
        ),
        (lambda p: p["turns"][2].update(turn_id=2), "row 'cats-train-0-2' .*number 2, which stands there already"),
        (lambda p: p["turns"].insert(1, None), r"row 'cats-train-0-None' \(turns\[1\]\) .*the turn is missing"),
        (lambda p: p["turns"][1].pop("question"), "row 'cats-train-0-2' .*field 'question' is no string, or empty"),
        (
            lambda p: p["turns"][1].update(answers=["seven"]),
            r"row 'cats-train-0-2' .*\[\"seven\"\], and none of it stands",
        ),
        (
            lambda p: p["turns"][1].pop("answers"),
            "row 'cats-train-0-2' .*both 'answers' and 'clarification', or neither",
        ),
        (lambda p: p["turns"][1].update(answer="two"), "row 'cats-train-0-2' .*field 'answer'. Did you mean 'answers'"),
        (lambda p: p["turns"][2]["clarification"]["replies"].pop(), "row 'cats-train-0-3' .*at least two of them"),
        (
            lambda p: p["turns"][2]["clarification"]["replies"][1].update(answers=["Max"]),
            r"row 'cats-train-0-3' 'clarification.replies\[1\].answers' is \[\"Max\"\]",
        ),
        (lambda p: p.pop("story"), "row \"cats-train-0\" has no field 'story'"),
        (lambda p: p.update(split="eval"), "allowed: train, dev, test"),
    ],
)
def test_malformed_passages_are_named(change, said, tmp_path):
    dialogues.make_tiny(tmp_path, 0)
    path = tmp_path / dialogues.FILE
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    change(rows[0])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError) as error:
        list(dialogues.read(tmp_path, "test", dialogues.Config()))
    assert re.search(said, str(error.value)), error.value
    assert f"{path}, line 1: " in str(error.value)


def test_all_malformed_passages_are_listed_and_what_may_be_may_be(tmp_path):
    dialogues.make_tiny(tmp_path, 0)
    path = tmp_path / dialogues.FILE
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[0]["turns"][1] |= {"answers": ["a pair"], "span": False}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert next(dialogues.read(tmp_path, "train", dialogues.Config())).answers == ("a pair",)
    del rows[1]["topic"], rows[2]["turns"]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]), encoding="utf-8")
    with pytest.raises(DataError, match="3 problems") as error:
        list(dialogues.read(tmp_path, "train", dialogues.Config()))
    assert "line 4: row 'cats-train-0' stands on line 1 already" in str(error.value)


# -- Abg-CoQA's layout -----------------------------------------------------------------------------------------------


@pytest.fixture
def abg(tmp_path):
    """Writes Abg-CoQA's files with a changed item of training, and reads a split."""
    ask_qa.make_tiny(tmp_path, 0)

    def read(split="train", change=lambda item: None, index=0, **options):
        path = tmp_path / "coqa_abg_train.json"
        value = json.loads(path.read_text(encoding="utf-8"))
        before = copy.deepcopy(value)
        change(value["data"][index])
        path.write_text(json.dumps(value), encoding="utf-8")
        try:
            return list(ask_qa.read(tmp_path, split, ask_qa.Config(check_counts=False, **options)))
        finally:
            path.write_text(json.dumps(before), encoding="utf-8")

    return read


def test_items_of_abg_coqa_become_turns(abg):
    clear, unclear = abg()
    assert [turn.role for turn in clear.turns] == ["narrator", "user", "assistant", "user", "assistant", "user"]
    assert [turn.text for turn in clear.turns[1:]] == [
        "Who has cats?",
        "Ann",
        "How many?",
        "two",
        "Where does Tom sleep?",
    ]
    assert "Kit. Tom sleeps" in clear.turns[0].text, "paragraphs are read on"
    assert clear.answers == ("the sofa",)
    assert clear.clarification is None
    assert unclear.answers == ()
    assert unclear.clarification.question == "Which cat do you mean?", "asking back is known by its mark"
    assert unclear.clarification.replies == (
        (Turn("user", "The black one."), ("Tom", "it is called Tom")),
        (Turn("user", "The white one."), ("Kit",)),
    )


def test_a_history_is_put_in_its_order(abg):
    (row, _) = abg(change=lambda item: item["history_turns"].reverse())
    assert [turn.text for turn in row.turns[1:3]] == ["Who has cats?", "Ann"]


@pytest.mark.parametrize(
    ("change", "index", "said"),
    [
        (lambda i: i["history_turns"][1].update(turn_id=3), 0, "refers to turn 3, which is the request itself"),
        (
            lambda i: i["history_turns"][1].update(turn_id=7),
            0,
            "refers to turn 7, which comes after the request, turn 3",
        ),
        (lambda i: i["history_turns"][1].update(turn_id=1), 0, "turn 1 twice"),
        (lambda i: i["history_turns"].insert(0, None), 0, r"'history_turns\[0\]' is null: the turn is missing"),
        (lambda i: i["history_turns"][0].pop("answer"), 0, r"'history_turns\[0\].answer' is null"),
        (lambda i: i.pop("target_turn"), 0, "'target_turn' is null: the turn is missing"),
        (
            lambda i: i["target_turn"].update(rationale="on the roof"),
            0,
            'rationale\' is "on the roof", which does not stand',
        ),
        (lambda i: i.update(ambiguity="maybe"), 0, "allowed: ambiguous, non_ambiguous"),
        (lambda i: i.update(clarification_turn={}), 1, "'clarification_turn' is {}: the turn is missing"),
        (lambda i: i["clarification_turn"].update(answers=[]), 1, "a list of replies is needed"),
        (lambda i: i["clarification_turn"]["answers"][1].pop("org_ans"), 1, r"answers\[1\].org_ans' is null"),
    ],
)
def test_malformed_items_are_named(change, index, said, abg):
    with pytest.raises(DataError) as error:
        abg(change=change, index=index)
    assert re.search(rf'data\[{index}\]: row "00{index}\|3\|2" .*{said}', str(error.value)), error.value


def test_spans_are_not_checked_where_that_is_not_wanted_or_nothing_is_there(abg):
    assert len(abg(change=lambda i: i["target_turn"].update(rationale="on the roof"), check_spans=False)) == 2
    assert len(abg(change=lambda i: i["target_turn"].update(rationale="unknown", span_start=-1, span_end=-1))) == 2


def test_counts_of_the_release_are_held_against_the_papers(tmp_path):
    ask_qa.make_tiny(tmp_path, 0)
    assert ask_qa.NUM_ROWS == {"train": 5985, "dev": 500, "test": 1345}
    for split, stated in (("train", "5,985"), ("test", "1,345"), ("dev", "500")):
        with pytest.raises(DataError, match=f"holds 2 rows, {stated}"):
            list(ask_qa.read(tmp_path, split, ask_qa.Config()))


def test_a_single_file_is_of_the_split_that_its_name_says(tmp_path):
    ask_qa.make_tiny(tmp_path, 0)
    cfg = ask_qa.Config(check_counts=False)
    one = tmp_path / "coqa_abg_val.json"
    assert [len(list(ask_qa.read(one, split, cfg))) for split in SPLITS] == [0, 2, 0]
    other = one.rename(tmp_path / "mine.json")
    with pytest.raises(DataError, match=r"a single file is one of coqa_abg_train\.json"):
        list(ask_qa.read(other, "dev", cfg))
    assert len(list(ask_qa.read(other, "dev", ask_qa.Config(check_counts=False, dev="mine.json")))) == 2


# -- what makes a dialogue -------------------------------------------------------------------------------------------

TOLD, ASKED, SAID = Turn("narrator", "Tom is black."), Turn("user", "Who is black?"), Turn("assistant", "Tom")


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ((), "has no 'turns'"),
        ((TOLD, ASKED, ASKED), r"'turns\[2\]' is the user's like the one before: a turn of the assistant is missing"),
        ((TOLD, ASKED, SAID, SAID, ASKED), r"'turns\[3\]' .*a turn of the user is missing"),
        ((TOLD, SAID, ASKED), r"'turns\[1\]' is the assistant's, and nobody has asked"),
        ((ASKED, SAID, TOLD, ASKED), r"'turns\[2\]' is the narrator's, after the dialogue has begun"),
        ((TOLD, ASKED, SAID), "ends with a turn of the assistant and has no 'question'"),
    ],
)
def test_speakers_take_turns(turns, said):
    problems = dialogue_problems(Utterance("a", turns=turns, answers=("Tom",)))
    assert re.search(said, " ".join(problems)), problems


def test_voices_and_answers_of_a_row():
    good = Utterance("a", turns=(TOLD, TOLD, ASKED, SAID, ASKED), answers=("tom",), meta={"span": True})
    assert dialogue_problems(good) == []
    assert dialogue_problems(replace(good, turns=(TOLD,), question="Who is black?")) == []
    assert "neither 'answers' nor" in dialogue_problems(replace(good, answers=()))[0]
    assert "none of it stands" in dialogue_problems(replace(good, answers=("Kit", "the white one")))[0]
    assert dialogue_problems(replace(good, answers=("Kit",), meta={})) == []
    same = {"voices": {"user": "flite/slt", "assistant": "flite/slt", "nurse": "flite/awb"}}
    (unknown, twice) = dialogue_problems(replace(good, meta=same))
    assert "role 'nurse'" in unknown
    assert "gives user and assistant the same voice 'flite/slt'" in twice


def test_words_stand_in_a_passage_whole():
    assert stands_in("two  Cats", "She has two\ncats.")
    assert not stands_in("cat", "She has two cats.")
    assert stands_in("five (or six)", "It costs five (or six).")


# -- spoken folders --------------------------------------------------------------------------------------------------


def test_turns_without_recordings_are_named(tmp_path):
    """A folder of `lalm data synth` in which something is missing."""
    (row,) = [row for row in tiny_rows(tmp_path) if row.clarification is not None]
    sound = tmp_path / "a.flac"
    sound.write_bytes(b"x")
    heard = tuple(replace(turn, audio=sound, duration_s=1.0) for turn in row.turns)
    write_manifest(tmp_path / "manifest.jsonl", [replace(row, turns=heard, source="synthetic")])
    assert read_manifest(tmp_path / "manifest.jsonl")
    for module in (ask_qa, dialogues):
        with pytest.raises(DataError, match=r"row 'cats-train-0-3' has no recording of 'clarification.replies\[0\]'"):
            list(module.read(tmp_path, "train", module.Config()))
    sound.unlink()
    with pytest.raises(
        DataError, match=r"row 'cats-train-0-3' names .*a.flac in 'turns\[0\]', and there is no such file"
    ):
        list(ask_qa.read(tmp_path, "train", ask_qa.Config()))


def tiny_rows(folder):
    dialogues.make_tiny(folder, 0)
    return list(dialogues.read(folder, "train", dialogues.Config()))


def test_rows_of_ones_own_manifest_are_held_to_the_same(tmp_path):
    good = Utterance("good", turns=(TOLD, ASKED), answers=("Tom",), meta={"span": True})
    unlabelled = Utterance("unlabelled", turns=(TOLD, SAID))  # to listen to, or to be answered
    write_manifest(tmp_path / "manifest.jsonl", [good, unlabelled])
    assert [row.id for row in jsonl.read(tmp_path, "train", jsonl.Config())] == ["good", "unlabelled"]

    voices = {"voices": {"user": "flite/slt", "narrator": "flite/slt"}}
    bad = [replace(good, id="twice", turns=(TOLD, ASKED, ASKED)), replace(good, id="kit", answers=("Kit",))]
    write_manifest(tmp_path / "manifest.jsonl", [good, *bad, replace(good, id="alike", meta=voices)])
    with pytest.raises(DataError) as error:
        list(jsonl.read(tmp_path, "train", jsonl.Config()))
    assert "3 problems" in str(error.value)
    said = "\n".join(error.value.problems)
    assert "row 'twice' 'turns[2]' is the user's like the one before" in said
    assert "row 'kit' 'answers' is [\"Kit\"]" in said
    assert "row 'alike' 'meta.voices' gives" in said
