"""Corpora in the layouts in which they are published: counts that are held against the papers', options, bad rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lalm import plugins
from lalm.data.annotated import parse_annotated
from lalm.data.manifest import json_lines, read_manifest
from lalm.errors import DataError
from lalm.records import Slot

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
COUNTED = ("massive", "speech_massive", "italic", "fluent_speech_commands", "minds14")


def made(name, root, **options):
    root.mkdir(exist_ok=True)
    module = plugins.load("corpora", name)
    module.make_tiny(root, 0)
    return module, module.Config(**{"check_counts": False, **options})


def read(module, cfg, root, split):
    return list(module.read(root, split, cfg))


@pytest.mark.parametrize("name", COUNTED)
def test_a_corpus_that_is_not_complete_is_refused(name, tmp_path):
    module, cfg = made(name, tmp_path / "c", check_counts=True)
    with pytest.raises(DataError, match=r"holds \d+ rows, [\d,]+ came with the corpus.*check_counts: false"):
        read(module, cfg, tmp_path / "c", "test")


def test_the_counts_are_the_papers():
    rows = {name: plugins.load("corpora", name).NUM_ROWS for name in COUNTED if name != "italic"}
    assert sum(rows["massive"].values()) == plugins.load("corpora", "italic").NUM_RECORDINGS == 16_521
    assert sum(rows["fluent_speech_commands"].values()) == 30_043
    assert sum(rows["minds14"].values()) == 8_168
    assert len(rows["minds14"]) == 14
    assert rows["speech_massive"] == {"train": 11_514, "train_115": 115, "validation": 2_033, "test": 2_974}


def test_massive_rows(tmp_path):
    module, cfg = made("massive", tmp_path / "m")
    rows = read(module, cfg, tmp_path / "m", "train")
    assert [row.frame.intent for row in rows] == ["alarm_set", "play_music", "weather_query", "audio_volume_mute"]
    assert rows[0].frame.slots == (Slot("time", "nine am"),)
    assert rows[3].meta == {"scenario": "audio", "action": "volume_mute", "slurp_id": "3"}
    with pytest.raises(DataError, match=r"en-USA\.jsonl: there is no such file\. Did you mean 'en-US'\?"):
        read(module, module.Config(locale="en-USA"), tmp_path / "m", "train")


def test_bad_lines_of_massive_are_all_listed(tmp_path):
    module, cfg = made("massive", tmp_path / "m")
    path = tmp_path / "m" / "data" / "en-US.jsonl"
    good = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    bad = [{**good, "annot_utt": "wake me"}, {**good, "intent": 3}, {"id": "9"}, [], {**good, "partition": "x"}]
    path.write_text("\n".join(map(json.dumps, [good, *bad])), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read(module, cfg, tmp_path / "m", "train")
    said = str(caught.value)
    assert "5 problems" in said
    assert "line 2: field 'annot_utt' says 'wake me' and 'utt' 'wake me at nine am'" in said
    assert "line 3: field 'intent' is 3, a string is needed" in said
    assert "line 4: field 'intent' is missing" in said
    assert "line 6: field 'partition' is 'x'; allowed: train, dev, test" in said


def test_speech_massive_with_massives_text(tmp_path):
    root = tmp_path / "s"
    module, cfg = made("speech_massive", root, massive="massive/fr-FR.jsonl")
    train = read(module, cfg, root, "train")
    assert [row.source for row in train] == ["text"] * 4 + ["recorded"] * 4
    spoken = train[4]
    assert (spoken.language, spoken.frame, spoken.text) == ("fr", train[0].frame, train[0].text)
    assert spoken.speaker == "speaker-train_115-0"
    assert spoken.audio == root / "fr-FR" / "train_115" / f"{0:032x}.wav"
    assert read(module, module.Config(check_counts=False), root, "train")[0].source == "recorded"
    with pytest.raises(DataError, match=r"leaves the data folder\.$"):
        read(module, module.Config(check_counts=False, massive="../x.jsonl"), root, "train")


def test_speech_massive_as_parquet_says_what_to_do(tmp_path):
    module = plugins.load("corpora", "speech_massive")
    (tmp_path / "fr-FR").mkdir()
    (tmp_path / "fr-FR" / "train_115-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"lalm data import hf .*fr-FR text_column=utt intent_column=intent_str"):
        read(module, module.Config(), tmp_path, "train")


def test_italic_keeps_speakers_apart_where_its_makers_do(tmp_path):
    root = tmp_path / "i"
    module, cfg = made("italic", root)
    assert {row.speaker for row in read(module, cfg, root, "train")} == {"0", "1"}
    rows = read(module, module.Config(config="massive", check_counts=False), root, "test")
    assert {row.speaker for row in rows} == {None}
    assert {row.meta["speaker"] for row in rows} == {"20", "21"}
    assert rows[0].frame.intent == "alarm_set"
    assert rows[0].meta["environment"] == "silent"


def test_fluent_speech_commands_as_slots_or_as_one_intent(tmp_path):
    root = tmp_path / "f"
    module, cfg = made("fluent_speech_commands", root)
    rows = read(module, cfg, root, "test")
    assert rows[0].frame.slots == (Slot("object", "lights"), Slot("location", "kitchen"))
    assert (rows[1].frame.intent, rows[1].frame.slots) == ("increase", (Slot("object", "volume"),))
    joined = read(module, module.Config(label="intent", check_counts=False), root, "test")
    assert [row.frame.intent for row in joined] == [
        "activate_lights_kitchen",
        "increase_volume_none",
        "bring_newspaper_none",
    ]
    # the archive's own folder
    (tmp_path / "all").mkdir()
    root.rename(tmp_path / "all" / "fluent_speech_commands_dataset")
    assert len(read(module, cfg, tmp_path / "all", "train")) == 3


def test_a_path_in_a_corpus_cannot_leave_it(tmp_path):
    root = tmp_path / "f"
    module, cfg = made("fluent_speech_commands", root)
    path = root / "data" / "test_data.csv"
    path.write_text(
        path.read_text().replace("wavs/speakers/test0/test-0.wav", "../../../etc/hostname"), encoding="utf-8"
    )
    with pytest.raises(DataError, match=r"line 2: column 'path' or 'action': .*leaves the data folder"):
        read(module, cfg, root, "test")


def test_minds14_draws_its_test_set(tmp_path):
    root = tmp_path / "m"
    module, cfg = made("minds14", root, test_size=3)
    test, train = read(module, cfg, root, "test"), read(module, cfg, root, "train")
    assert {row.frame.intent for row in test} == {row.frame.intent for row in train} == {"abroad", "freeze", "balance"}
    assert not {row.id for row in test} & {row.id for row in train}
    assert train[0].text
    assert "," in next(row.text for row in (*train, *test) if row.frame.intent == "abroad")
    other = module.Config(test_size=3, check_counts=False, split_seed=5)
    assert {row.id for row in read(module, other, root, "test")} != {row.id for row in test}
    with pytest.raises(DataError, match=r"en-UK\.csv: there is no such file\. Did you mean 'en-"):
        read(module, module.Config(language="en-UK"), root, "test")


@pytest.mark.parametrize(
    ("text", "plain", "slots"),
    [
        ("mute", "mute", ()),
        (
            "wake me at [time : nine am] on [date : friday]",
            "wake me at nine am on friday",
            (("time", "nine am"), ("date", "friday")),
        ),
        ("[time : 9:15]", "9:15", (("time", "9:15"),)),
    ],
)
def test_marked_sentences(text, plain, slots):
    assert parse_annotated(text) == (plain, tuple(Slot(*one) for one in slots))


def test_marks_that_are_none_are_refused():
    with pytest.raises(ValueError, match="a slot is marked"):
        parse_annotated("wake me at [nine am]")


@pytest.mark.parametrize("name", ["slurp/devel.jsonl", "slurp/test.jsonl"])
def test_marks_of_real_sentences_are_their_entities(name):
    """The marked sentences of real files say what their spans of tokens say."""
    if not (DATA / name).is_file():
        pytest.skip(f"{DATA / name} is not there: real data do not come with the project")
    differing = compared = 0
    for _, value in json_lines(DATA / name, []):
        plain, slots = parse_annotated(value["sentence_annotation"])
        words = [token["surface"] for token in value["tokens"]]
        spans = [(entity["type"], "".join(words[i] for i in entity["span"]).lower()) for entity in value["entities"]]
        found = [(slot.type, slot.value.replace(" ", "").lower()) for slot in slots]
        if (
            plain.lower().split() == value["sentence"].lower().split()
        ):  # in a few rows they are not, in the files themselves
            differing += found != spans
            compared += 1
    assert compared > 2000
    assert differing <= 1  # "robert," is one token, and the comma is not marked


def test_the_corpora_are_imported(tmp_path, capsys):
    from lalm.cli import main

    made("speech_massive", tmp_path / "s")
    out = tmp_path / "out"
    arguments = ["speech_massive", str(tmp_path / "s"), "check_counts=false", "--copy-audio", "--out", str(out)]
    assert main(["data", "import", *arguments]) == 0, capsys.readouterr().err
    rows = read_manifest(out / "manifest.jsonl")
    assert [row.split for row in rows] == ["train"] * 4 + ["dev"] * 4 + ["test"] * 4
    assert all(row.audio is not None and row.audio.is_file() for row in rows)
