"""Spoken-SQuAD and SD-QA: sentences and their recordings, variants, the division by article, and every bad entry named."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from lalm import plugins
from lalm.errors import DataError, UserError

SQUAD, DIALECTS = (plugins.load("corpora", name) for name in ("spoken_squad", "sd_qa"))
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "spoken_squad"
TEST = "spoken_test-v1.1.json"


@pytest.fixture
def squad(tmp_path):
    SQUAD.make_tiny(tmp_path, 0)
    return tmp_path


def rows_of(root, split, **options):
    return list(SQUAD.read(root, split, SQUAD.Config(**{"check_counts": False, **options})))


def test_a_paragraph_is_read_sentence_by_sentence(squad):
    row = rows_of(squad, "train")[2]
    folder = squad / "Spoken-SQuAD_audio" / "train_wav"
    assert [(turn.role, turn.text, turn.audio) for turn in row.turns] == [
        ("narrator", "the rhine begins in the alps.", folder / "1_0_0.wav"),
        ("narrator", "it ends in the sea.", folder / "1_0_1.wav"),
        ("narrator", "it is long.", folder / "1_0_2.wav"),
    ]
    assert (row.question, row.answers) == ("Where does the Rhine end?", ("the sea",)), (
        "the same answer stands there twice"
    )
    assert rows_of(squad, "test")[0].turns[1].audio == squad / "Spoken-SQuAD_audio" / "dev_wav" / "0_0_1.wav"
    assert rows_of(squad, "dev") == []


def test_without_recordings_it_is_written(squad):
    (squad / "spoken_train-v1.1.json").rename(squad / "away")
    with pytest.raises(DataError, match=r"there is no such file\. Without it, split_by_article: true divides"):
        rows_of(squad, "train")
    (squad / "away").rename(squad / "spoken_train-v1.1.json")
    shutil.rmtree(squad / "Spoken-SQuAD_audio" / "train_wav")
    rows = rows_of(squad, "train")
    assert {row.source for row in rows} == {"text"}
    assert not any(row.recordings for row in rows)
    (squad / "Spoken-SQuAD_audio" / "dev_wav").rename(squad / "dev_wav")
    (squad / "dev_wav" / "1_0_0.wav").unlink()
    assert [len(row.recordings) for row in rows_of(squad, "test")] == [2, 0, 1]


def test_words_are_not_guessed_where_recordings_are_not_as_many(squad):
    (squad / "Spoken-SQuAD_audio" / "dev_wav" / "0_0_1.wav").unlink()
    row = rows_of(squad, "test")[0]
    assert [(turn.text, turn.audio.name) for turn in row.turns] == [(None, "0_0_0.wav")]
    (squad / "Spoken-SQuAD_audio" / "train_wav" / "1_0_1.wav").unlink()
    with pytest.raises(DataError, match=r"1_0_1\.wav: there is no such file, and there are later ones"):
        rows_of(squad, "train")


def test_transcripts_of_noisier_recordings_are_written_rows(squad):
    value = json.loads((squad / TEST).read_text())
    value["data"][0]["paragraphs"][0]["context"] = "oxygen is the guess. it was found by priestly."
    (squad / "spoken_test-v1.1_WER44.json").write_text(json.dumps(value))
    row = rows_of(squad, "test", test_wer=44)[0]
    assert (row.turns[0].text, row.turns[0].audio) == ("oxygen is the guess.", None)
    assert rows_of(squad, "train", test_wer=44)[0].recordings, "the training file is another's"
    with pytest.raises(DataError, match=r"WER54\.json: there is no such file\.$"):
        rows_of(squad, "test", test_wer=54)


def test_articles_are_divided_whole(squad):
    rows = {
        split: rows_of(squad, split, split_by_article=True, num_test=1, num_dev=1) for split in ("train", "dev", "test")
    }
    assert [len(found) for found in rows.values()] == [1, 1, 1]
    articles = [{row.meta["article"] for row in found} for found in rows.values()]
    assert set.union(*articles) == {"Oxygen", "Warsaw", "Geology"}
    seeds = [rows_of(squad, "test", split_by_article=True, num_test=1, num_dev=1, split_seed=seed) for seed in range(6)]
    assert len({found[0].id for found in seeds}) > 1
    with pytest.raises(DataError, match=r"has 3 questions about 3 articles.*leave no article to train on"):
        rows_of(squad, "train", split_by_article=True)


def test_sentences_around_the_answer_are_kept(squad):
    whole = rows_of(squad, "train")[2]
    for num_sentences, kept in ((1, {(1,)}), (2, {(0, 1), (1, 2)}), (3, {(0, 1, 2)})):
        found = set()
        for seed in range(12):
            row = rows_of(squad, "train", num_sentences=num_sentences, split_seed=seed)[2]
            assert (row.id, row.answers) == (whole.id, ("the sea",))
            found.add(tuple(whole.turns.index(turn) for turn in row.turns))
        assert found == kept


def test_an_answer_of_two_sentences_keeps_both_and_those_outside_go(squad):
    def change(data):
        data[0]["paragraphs"][0]["qas"][0]["answers"] = [{"text": "a gas. it was"}, {"text": "priestly"}]
        data[1]["paragraphs"][0]["context"] = "warsaw lies on the vistula. krakow lies on the vistula. so they say."
        data[1]["paragraphs"][0]["qas"][0]["answers"] = [{"text": "warsaw"}, {"text": "krakow"}]

    shutil.rmtree(squad / "Spoken-SQuAD_audio" / "dev_wav")
    changed(squad, change)
    both, first, _ = rows_of(squad, "test", num_sentences=1)
    assert [turn.text for turn in both.turns] == ["oxygen is a gas.", "it was found by priestly."]
    assert both.answers == ("a gas. it was", "priestly")
    assert [turn.text for turn in first.turns] == ["warsaw lies on the vistula."]
    assert first.answers == ("warsaw",), "the other is not among what is kept"
    assert first.meta["passage"] == "Warsaw/0"


def changed(squad, change):
    value = json.loads((squad / TEST).read_text())
    change(value["data"])
    (squad / TEST).write_text(json.dumps(value))


def spoil(data):
    first, second, third = (article["paragraphs"][0]["qas"][0] for article in data)
    first["answers"] = [{"text": "lavoisier", "answer_start": 0}]
    second["answers"] = [{"text": "", "answer_start": 0}]
    third["id"] = first["id"]
    data.append({"title": "Rhine", "paragraphs": [{"context": "", "qas": []}, 3]})
    data.append({"paragraphs": []})
    data[2]["paragraphs"][0]["qas"] += [{"id": "x", "question": "Why?"}, "Why?"]


def test_bad_entries_are_all_named(squad):
    changed(squad, spoil)
    with pytest.raises(DataError) as error:
        rows_of(squad, "test")
    said = "\n".join(error.value.problems)
    assert (
        "data[0].paragraphs[0].qas[0] (id 'test00000000000000000000'): the answer 'lavoisier' is not in the passage."
        in said
    )
    assert "data[1].paragraphs[0].qas[0] (id 'test00000000000000000001'): field 'answers' holds no answer" in said
    assert "data[2].paragraphs[0].qas[1] (id 'x'): field 'answers' is missing." in said
    assert "data[2].paragraphs[0].qas[2]: is not as SQuAD's format wants it" in said
    assert "data[3].paragraphs[0]: field 'context' is '', a string is needed." in said
    assert "data[3].paragraphs[1]: is not as SQuAD's format wants it" in said
    assert "data[4]: field 'title' is missing." in said
    assert len(error.value.problems) == 7, "the id of a bad entry is not compared"
    for text in ("[]", '{"data": 3}', "{"):
        (squad / TEST).write_text(text)
        with pytest.raises(UserError, match=r"spoken_test-v1\.1\.json: is no"):
            rows_of(squad, "test")


def test_ids_that_stand_there_twice_and_counts(squad):
    with pytest.raises(DataError, match=r"holds 3 rows, 37,111 came with the corpus"):
        rows_of(squad, "train", check_counts=True)
    changed(squad, lambda data: data[1]["paragraphs"][0]["qas"].append(data[0]["paragraphs"][0]["qas"][0]))
    with pytest.raises(DataError, match="not in the passage"):
        rows_of(squad, "test")
    changed(squad, lambda data: data[1].update(paragraphs=data[0]["paragraphs"]))
    with pytest.raises(DataError, match="stands there twice"):
        rows_of(squad, "test")


def test_the_test_file_as_it_is_published():
    if not REAL.is_dir():
        pytest.skip(f"{REAL} is not there: real data do not come with the project")
    rows = list(SQUAD.read(REAL, "test", SQUAD.Config()))
    assert (len(rows), len({row.meta["article"] for row in rows})) == (5351, 48)
    value = json.loads((REAL / TEST).read_text())
    passages = {q["id"]: p["context"] for a in value["data"] for p in a["paragraphs"] for q in p["qas"]}
    assert all(" ".join(turn.text for turn in row.turns) == passages[row.id] for row in rows)
    assert all(answer in passages[row.id] for row in rows for answer in row.answers)
    split = {
        name: list(SQUAD.read(REAL, name, SQUAD.Config(split_by_article=True))) for name in ("train", "dev", "test")
    }
    assert sum(map(len, split.values())) == 5351
    assert len(split["test"]) >= 500
    assert len(split["dev"]) >= 200


@pytest.fixture
def dialects(tmp_path):
    DIALECTS.make_tiny(tmp_path, 0)
    return tmp_path


def test_dialects_ask_and_articles_answer(dialects):
    rows = list(DIALECTS.read(dialects, "test", DIALECTS.Config()))
    assert [(row.id, row.answers, row.speaker) for row in rows] == [
        ("gbr/101", ("1771",), "GBT1"),
        ("gbr/-102", ("yes",), "GBT1"),
        ("irl/101", ("1771",), "IRL1"),
        ("irl/-102", ("yes",), "IRL1"),
    ]
    assert rows[0].turns[0].text == "When was Ben Nevis first climbed?", (
        "as it was to be read, not as it was recognised"
    )
    assert "Škotska" in rows[0].context
    one = list(DIALECTS.read(dialects, "test", DIALECTS.Config(dialects=("irl",))))
    assert one == rows[2:]
    with pytest.raises(DataError, match=r"no dialect 'irk'\. Did you mean 'irl'"):
        list(DIALECTS.read(dialects, "test", DIALECTS.Config(dialects=("irk",))))
    with pytest.raises(DataError, match="kor: there is no such folder"):
        list(DIALECTS.read(dialects, "test", DIALECTS.Config(language="kor")))


def test_dialects_in_packed_files_with_rows_that_are_wrong(dialects):
    path = dialects / "test" / "eng" / "irl" / "english.test.irl-en-US.jsonl"
    lines = path.read_bytes()
    path.unlink()
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(lines))
    path.with_name("english.test.irl-en-US.triples.jsonl").write_text("{}")
    (dialects / "test" / "eng" / "irl" / "wav_eng" / "101.wav").unlink()
    rows = list(DIALECTS.read(dialects, "test", DIALECTS.Config(dialects=("irl",))))
    assert [row.id for row in rows] == ["irl/-102"], "what nobody of the dialect recorded is left out"
    row = json.loads(lines.splitlines()[1])
    within = {**row["annotations"][0]["minimal_answer"], "plaintext_start_byte": 28, "plaintext_end_byte": 40}
    torn = {**row, "annotations": [{**row["annotations"][0], "minimal_answer": within}]}
    del row["annotations"]
    packed.write_bytes(gzip.compress(b"\n".join([b"{", json.dumps(row).encode(), json.dumps(torn).encode()])))
    with pytest.raises(DataError) as error:
        list(DIALECTS.read(dialects, "test", DIALECTS.Config(dialects=("irl",))))
    assert [problem.split(":")[0].removeprefix(f"{packed}, ") for problem in error.value.problems] == [
        "line 1",
        "line 2",
        "line 3",
    ]
    assert "field 'annotations' is missing" in error.value.problems[1]
