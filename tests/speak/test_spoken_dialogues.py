"""`lalm data synth` of dialogues: voices by role and split, one cast a passage, the card, what is kept and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lalm.cli import main
from lalm.config import DataSection
from lalm.corpora import ask_qa, dialogues
from lalm.data import audio
from lalm.data.manifest import read_manifest
from lalm.data.pools import load_pools
from lalm.errors import DataError, UserError
from lalm.speak.deal import Dealer, deal_voices
from lalm.speak.dialogues import passage_of
from lalm.speak.rows import Manner, deal_to_splits, plan, rows_of, speak_rows

ENGINES = Path(__file__).parent / "plugins"


@pytest.fixture
def tiny(tmp_path) -> Path:
    """Three passages, one a split, with two requests each."""
    root = tmp_path / "tiny"
    root.mkdir()
    dialogues.make_tiny(root, 0)
    return root


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> tuple[list[str], Path]:
    """A command that speaks two passages, one of training and one of the test, and has been given once; and its folder."""
    root, out = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("spoken") / "out"
    dialogues.make_tiny(root, 0)
    path = root / dialogues.FILE
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(lines[0] + lines[2], encoding="utf-8")
    found = ["data", "synth", "--corpus", "dialogues", "--root", str(root), "--engine", "tones"]
    found += ["--plugins", str(ENGINES), "--out", str(out), "--speed", "1.2,1.5"]
    assert main(found) == 0
    return found, out


def rows(tiny, *splits):
    return [row for row in rows_of(None, "dialogues", tiny) if row.split in splits]


def planned(source, manner):
    """What would be spoken of rows."""
    return plan(source, deal_to_splits(source, manner, None), manner)


def sounds(row):
    """Role and words of all that is spoken of a row."""
    replies = [turn for turn, _ in row.clarification.replies] if row.clarification else []
    return [(turn.role, turn.text) for turn in (*row.turns, *replies)]


def test_dialogues_are_spoken_by_casts(command, tiny):
    made = read_manifest(command[1] / "manifest.jsonl")
    written = rows(tiny, "train", "test")
    assert [row.meta["text_id"] for row in made] == [row.id for row in written]
    for row, text in zip(made, written, strict=True):
        assert (row.source, row.split, row.text, row.audio) == ("synthetic", text.split, None, None)
        assert sounds(row) == sounds(text)
        assert row.answers == text.answers
        assert set(row.meta["voices"]) == {turn.role for turn in row.turns}
        assert len(set(row.meta["voices"].values())) == len(row.meta["voices"]), "no voice has two roles"
        assert row.speaker == row.meta["voices"]["user"]
        for turn in row.turns:
            assert turn.duration_s == pytest.approx(audio.info(turn.audio).duration_s, abs=1e-3)
    voices = [
        {v for row in made if row.split == split for v in row.meta["voices"].values()} for split in ("train", "test")
    ]
    assert not voices[0] & voices[1], "no voice speaks for two splits"
    first, second = made[0], made[1]
    assert [turn.audio for turn in first.turns[:3]] == [turn.audio for turn in second.turns[:3]], (
        "a passage is spoken once"
    )
    assert all(turn.audio.is_file() for turn, _ in second.clarification.replies)


def test_what_is_there_is_kept_and_the_same_command_goes_on(command, capsys):
    arguments, out = command
    before = {path: path.stat().st_mtime_ns for path in (out / "audio").iterdir()}
    lines = (out / "manifest.jsonl").read_bytes()
    victim = read_manifest(out / "manifest.jsonl")[1].clarification.replies[1][0].audio
    sound = victim.read_bytes()
    victim.unlink()
    assert main(arguments) == 0
    assert f"Spoke 4 rows, 0.1 minutes; {len(before) - 1} clips were there already" in capsys.readouterr().out
    assert (out / "manifest.jsonl").read_bytes() == lines
    assert victim.read_bytes() == sound
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in before.items() if path != victim)


def test_the_card_counts_what_is_there(command):
    made = read_manifest(command[1] / "manifest.jsonl")
    card = (command[1] / "README.md").read_text(encoding="utf-8")
    assert "| train | 2 | 1 | 1 | 10 | 2 | 8 |" in card
    assert "- text: Apache-2.0" in card
    assert "- speech of tones: CC0-1.0" in card
    for row in made:
        for role, voice in row.meta["voices"].items():
            turns = {turn.audio: turn.duration_s for one in made if one.split == row.split for turn in one.turns}
            assert sum(turns.values()) > 0
            assert f"| {row.split} | {role} | `{voice}` |" in card


def test_a_spoken_folder_is_read_by_the_corpora_and_makes_pools(command):
    out = command[1]
    for module in (dialogues, ask_qa):
        read = {split: list(module.read(out, split, module.Config())) for split in dialogues.SPLITS}
        assert [len(found) for found in read.values()] == [2, 0, 2]
        assert all(row.source == "recorded" and len(row.recordings) == len(row.turns) for row in read["train"])
    pools = load_pools(DataSection.model_validate({"corpus": "dialogues", "root": out, "speech_share": 0.5}))
    assert (len(pools.speech), len(pools.test)) == (1, 2)
    assert len(pools.text) == 2, "the written twins"
    assert not any(row.recordings for row in pools.text)


def test_copies_have_other_casts_and_a_room_is_shared(tiny):
    spoken = planned(rows(tiny, "train"), Manner(("tones",), copies=2, room_s=(0.1, 0.3), speed=(0.8, 1.2)))
    (first, clips), (second, others) = [
        (row, clips) for row, clips in spoken if row.meta["text_id"] == "cats-train-0-3"
    ]
    assert (first.id, second.id) == ("cats-train-0-3.speech0", "cats-train-0-3.speech1")
    assert not set(first.meta["voices"].values()) & set(second.meta["voices"].values())
    assert len({(clip.reverb_s, clip.room_seed) for clip in clips}) == 1
    assert clips[0].reverb_s != others[0].reverb_s
    assert len(set(first.meta["speed"].values())) == 3, "each speaks at a pace of their own"


def test_a_row_may_name_its_voices(tiny):
    (one, other) = rows(tiny, "train")
    named = {"narrator": "tones/deep", "user": "tones/thin"}
    source = [replace(one, meta={**one.meta, "voices": named}), other, *rows(tiny, "test")]
    made = [row for row, _ in planned(source, Manner(("tones",)))]
    assert {**made[0].meta["voices"], **named} == made[0].meta["voices"]
    assert made[0].meta["voices"]["assistant"] not in named.values()
    test = {voice for row in made if row.split == "test" for voice in row.meta["voices"].values()}
    assert not test & set(named.values())


@pytest.mark.parametrize(
    ("voices", "said"),
    [
        (
            {"user": "tones/hihg"},
            "row 'cats-train-0-2' has 'tones/hihg' as voice of the user. Did you mean 'tones/high'",
        ),
        ({"user": "flite/slt"}, "row 'cats-train-0-2' has 'flite/slt' as voice of the user"),
        (
            {"user": "tones/low", "narrator": "tones/low"},
            "row 'cats-train-0-2' 'meta.voices' gives user and narrator the same",
        ),
        ({"usr": "tones/low"}, "row 'cats-train-0-2' 'meta.voices' names a role 'usr'. Did you mean 'user'"),
        ("tones/low", "row 'cats-train-0-2' 'meta.voices' is \"tones/low\""),
    ],
)
def test_voices_that_cannot_be_are_answered_before_anything_is_spoken(voices, said, tmp_path, tiny):
    (one, other) = rows(tiny, "train")
    with pytest.raises(DataError) as error:
        speak_rows([replace(one, meta={"voices": voices}), other], tmp_path / "out", Manner(("tones",)))
    assert said in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_voice_named_in_two_splits_and_turns_that_are_missing_are_listed(tmp_path, tiny):
    named = [replace(row, meta={"voices": {"user": "tones/low"}}) for row in rows(tiny, "train", "test")]
    broken = replace(named[1], turns=named[1].turns[:1])
    with pytest.raises(DataError) as error:
        speak_rows([named[0], broken, named[2]], tmp_path / "out", Manner(("tones",)))
    assert "row 'cats-train-0-3' ends with a turn of the narrator" in str(error.value)
    assert "row 'cats-test-0-2' has 'tones/low' as voice of the user in test; it speaks for train already" in str(
        error.value
    )


def test_too_few_voices_are_said(tmp_path, tiny):
    with pytest.raises(
        UserError, match=r"6 voices of 'en' for dialogues of 3 splits .* needs 3 different ones, .*for "
    ):
        speak_rows(rows(tiny, "train", "dev", "test"), tmp_path / "out", Manner(("tones",)))
    assert not (tmp_path / "out").exists()


def test_sentences_and_dialogues_in_one_source(tiny, manifest):
    """Each as it is spoken alone but for the voices, which are dealt among both."""
    source = [replace(row, split="train") for row in (*rows(tiny, "train"), *rows_of(manifest(2), None, None))]
    spoken = planned(source, Manner(("tones",)))
    assert [(bool(row.turns), len(clips)) for row, clips in spoken] == [(True, 4), (True, 8), (False, 1), (False, 1)]
    assert spoken[2][0].meta["voice"] == spoken[2][1][0].voice


def test_a_readme_of_others_is_not_overwritten(tmp_path, tiny):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"README\.md is there already"):
        speak_rows(rows(tiny, "train"), tmp_path / "out", Manner(("tones",)))


def test_dialogues_that_are_spoken_already_are_left_out(command, tmp_path):
    spoken = [replace(row, source="recorded") for row in read_manifest(command[1] / "manifest.jsonl")]
    with pytest.raises(DataError, match="There are no text rows to speak"):
        speak_rows(spoken, tmp_path / "b", Manner(("tones",)))
    speak_rows(spoken[:1], tmp_path / "b", Manner(("tones",), recorded=True))
    (again,) = read_manifest(tmp_path / "b" / "manifest.jsonl")
    assert again.meta["voices"] == spoken[0].meta["voices"], "by the voices that it names"
    assert {path.parent for path in again.recordings} == {tmp_path / "b" / "audio"}


def test_casts_reach_every_voice_once():
    dealer = Dealer({"a": ["1"], "b": ["1", "2", "3"]}, "seed")
    for _ in range(4):
        (order, other) = dealer.orders(3, 2)
        assert sorted(order) == sorted(other) == [("a", "1"), ("b", "1"), ("b", "2"), ("b", "3")]
        assert order[:3] != other[:3]


def test_every_split_gets_as_many_voices_as_a_dialogue_needs():
    sizes = {"train": 900, "dev": 5, "test": 50}
    dealt = deal_voices({"a": list("abcd"), "b": list("abcdefgh")}, sizes, {}, 0, least=3)
    assert sorted(list(dealt.values()).count(split) >= 3 for split in sizes) == [True] * 3
    assert list(dealt.values()).count("train") == 6
    assert set(deal_voices({"a": list("abc")}, sizes, {}, 0).values()) == set(sizes), "and one each without dialogues"


def test_passages_are_told_apart_by_name_or_by_what_is_narrated(tiny):
    named = rows(tiny, "train", "test")
    told = [replace(row, meta={}) for row in named]
    for one, other, third, _ in (named, told):
        assert passage_of(one) == passage_of(other) != passage_of(third)
    stretch = replace(named[0], turns=named[1].turns[1:])
    assert passage_of(stretch) == passage_of(named[0]), "a part of the passage is told by the same voice"
    assert passage_of(replace(told[0], turns=told[0].turns[1:])) == told[0].id


@pytest.mark.skipif(
    shutil.which("flite") is None or shutil.which("espeak-ng") is None, reason="flite or espeak-ng is not installed"
)
def test_real_engines_speak_a_dialogue(tmp_path, tiny):
    speak_rows(rows(tiny, "train")[:1], tmp_path / "out", Manner(("flite", "espeak_ng")))
    (row,) = read_manifest(tmp_path / "out" / "manifest.jsonl")
    assert {voice.partition("/")[0] for voice in row.meta["voices"].values()} == {"flite", "espeak_ng"}
    assert row.turns[0].duration_s > 3 * row.turns[2].duration_s, "a passage is longer than a name"
