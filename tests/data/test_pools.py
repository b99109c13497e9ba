"""What a run draws from its corpus: each transcript once, the budget within the pool, speakers apart, faults listed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from lalm.config import DataSection
from lalm.data.pools import check_recordings, load_pools
from lalm.errors import DataError


def project(folder, rows):
    """A manifest of rows; each file that a row names is half a second of noise."""
    folder.mkdir(exist_ok=True)
    for row in rows:
        if row.get("audio") and not (folder / row["audio"]).exists():
            soundfile.write(folder / row["audio"], 0.1 * np.random.default_rng(0).standard_normal(8000), 16_000)
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder / "m.jsonl"


def data(manifest, **options):
    return DataSection.model_validate({"corpus": "jsonl", "root": manifest, **options})


def text(name, **more):
    return {"id": name, "text": f"say {name}", "intent": "say", **more}


def spoken(name, **more):
    return {"id": name, "audio": f"{name}.wav", "intent": "say", **more}


def test_each_sentence_is_one_text_row_however_often_it_was_recorded(tmp_path):
    same = {"text": "say a"}
    rows = [
        text("a"),
        spoken("s1", **same),
        spoken("s2", **same),
        spoken("s3", text="say c"),
        spoken("s4", text="say c"),
    ]
    pools = load_pools(data(project(tmp_path, rows)))
    assert [row.text for row in pools.text] == ["say a", "say c"]
    assert all(row.audio is None for row in pools.text)
    assert len(pools.speech) == 4
    assert pools.pool_speech_s == pytest.approx(2.0)  # lengths come from the files where the manifest gives none


def test_the_budget_is_drawn_from_training_recordings_alone(tmp_path):
    rows = [text("a"), *(spoken(f"p{i}") for i in range(10)), *(spoken(f"q{i}", split="test") for i in range(5))]
    manifest = project(tmp_path, rows)
    pools = load_pools(data(manifest, speech_share=0.3))
    assert (len(pools.speech), pools.num_pool_speech, len(pools.test)) == (3, 10, 5)
    assert {row.id[0] for row in pools.speech} == {"p"}
    assert len(load_pools(data(manifest, speech_minutes=0.02)).speech) == 2  # 1.2 s hold two of half a second
    with pytest.raises(DataError, match=r"data\.speech_minutes: 500 are asked for and the pool has 0\.08"):
        load_pools(data(manifest, speech_minutes=500))
    assert len(load_pools(data(manifest, num_test=2)).test) == 2


def test_synthetic_speech_is_neither_recording_nor_text(tmp_path):
    rows = [text("a"), spoken("t", text="say a", source="synthetic"), spoken("r")]
    other = project(
        tmp_path / "synthetic", [spoken("u", source="synthetic"), spoken("v", split="test", source="synthetic")]
    )
    pools = load_pools(data(project(tmp_path, rows), synthetic=other))
    assert sorted(row.id for row in pools.synthetic) == ["t", "u"]
    assert [row.id for row in pools.speech] == ["r"]
    assert [row.id for row in pools.text] == ["a"]


def test_empty_pools_and_missing_folders_are_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="no training rows at all"):
        load_pools(data(tmp_path / "empty.jsonl"))
    with pytest.raises(DataError, match="does not exist"):
        load_pools(data(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="no recordings to train on"):
        load_pools(data(project(tmp_path, [text("a")]), speech_items=1))
    with pytest.raises(DataError, match="3 test rows are asked for and the corpus has 0"):
        load_pools(data(project(tmp_path, [text("a")]), num_test=3))


def test_rows_without_any_label_are_refused_with_the_field_that_was_meant(tmp_path):
    rows = [{"id": "a", "text": "hello", "label": "greet"}, {"id": "b", "text": "bye", "label": "leave"}]
    with pytest.raises(DataError, match=r"none of the 2 training rows has an 'intent', 'slots' or 'answers'.*label"):
        load_pools(data(project(tmp_path, rows)))


def test_a_speaker_in_training_and_test_is_refused(tmp_path):
    rows = [text("a"), spoken("p", speaker="ann"), spoken("q", speaker="ann", split="test")]
    with pytest.raises(DataError, match="1 speaker in training and in test"):
        load_pools(data(project(tmp_path, rows)))


def test_a_recording_in_training_and_test_is_refused(tmp_path):
    rows = [text("a"), spoken("p"), {**spoken("q", split="test"), "audio": "p.wav"}]
    with pytest.raises(DataError, match="1 recording in training and in test") as error:
        load_pools(data(project(tmp_path, rows)))
    assert error.value.problems == (str(tmp_path / "p.wav"),)


def test_a_budget_of_text_holds_for_what_speaks_it_and_tested_sentences_are_refused(tmp_path):
    rows = [text(name) for name in "abcdef"]
    other = project(tmp_path / "synthetic", [spoken(row["id"], text=row["text"], source="synthetic") for row in rows])
    root = project(tmp_path, [*rows, spoken("r"), spoken("t", split="test", meta={"slurp_id": 7})])
    assert len(load_pools(data(root, synthetic=other)).synthetic) == 6
    pools = load_pools(data(root, synthetic=other, num_text=3))
    assert {row.text for row in pools.synthetic} <= {row.text for row in pools.text}
    assert len(pools.text) == 3
    leaking = project(tmp_path / "leaking", [spoken("v", source="synthetic", meta={"slurp_id": "7"})])
    with pytest.raises(DataError, match=r"1 row of data\.synthetic of sentences that are tested(.|\n)*slurp_id 7: v"):
        load_pools(data(root, synthetic=leaking))


def test_no_recording_is_on_two_sides(tmp_path):
    rows = [text("a"), spoken("r"), spoken("d", split="dev", audio="x.wav"), spoken("t", split="test", audio="y.wav")]
    root = project(tmp_path, rows)
    load_pools(data(root))
    for twin, where in (("dev", "the development set"), ("test", "test")):
        other = {"dev": "x.wav", "test": "y.wav"}[twin]
        both = project(tmp_path, [*rows, spoken("s", audio=f"../{tmp_path.name}/{other}")][:])
        with pytest.raises(DataError, match=rf"1 recording in training and in {where}"):
            load_pools(data(both, allow_outside_paths=True))
        project(tmp_path, rows)
        speech = project(tmp_path / "synthetic", [spoken("v", source="synthetic", audio=f"../{other}")])
        with pytest.raises(DataError, match=rf"1 recording in data\.synthetic and in {where}"):
            load_pools(data(root, synthetic=speech, allow_outside_paths=True))
    shared = project(tmp_path, [*rows, spoken("u", split="test", audio="x.wav")])
    with pytest.raises(DataError, match="1 recording in the development set and in test"):
        load_pools(data(shared))


def test_paths_outside_are_allowed_by_one_key_for_the_corpus_and_for_synthetic_speech(tmp_path):
    soundfile.write(tmp_path / "out.wav", np.zeros(800) + 0.1, 16_000)
    inner = project(tmp_path / "in", [text("a"), {"id": "s", "audio": "../out.wav", "intent": "say"}])
    with pytest.raises(DataError, match=r"data\.allow_outside_paths: true"):
        load_pools(data(inner))
    pools = load_pools(data(inner, allow_outside_paths=True, synthetic=inner))
    assert len(pools.speech) == len(pools.synthetic) == 1


def test_all_recordings_that_cannot_be_used_are_listed_before_a_model_is_loaded(tmp_path):
    manifest = project(tmp_path, [text("a"), *(spoken(f"p{i}") for i in range(6))])
    (tmp_path / "p0.wav").unlink()
    (tmp_path / "p1.wav").write_bytes(b"")
    (tmp_path / "p2.wav").write_bytes((tmp_path / "p3.wav").read_bytes()[:3000])
    with pytest.raises(DataError, match="3 recordings cannot be used") as error:
        load_pools(data(manifest))
    for part in ("p0.wav: there is no such file", "p1.wav: is empty", "p2.wav: is cut off"):
        assert part in str(error.value)


def test_samples_that_are_no_sound_are_found_by_decoding(tmp_path):
    manifest = project(tmp_path, [text("a"), spoken("p", duration_s=1.0), spoken("q", split="test")])
    soundfile.write(tmp_path / "p.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    flac = tmp_path / "q.wav"
    soundfile.write(flac, 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000, format="FLAC")
    flac.write_bytes(flac.read_bytes()[:9000])
    pools = load_pools(data(manifest))
    with pytest.raises(DataError, match="2 of 2 recordings cannot be used") as error:
        check_recordings(pools)
    assert "p.wav: holds NaN" in str(error.value)
    assert "q.wav: cannot be decoded to its end" in str(error.value)
