"""`lalm data plan`: budgets in three units, what counts as recorded, the script in three forms, and the way back to a manifest."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import soundfile

from lalm import cli
from lalm.corpora import barista
from lalm.data.manifest import read_manifest

VERBS = {"heat": "warm up", "light": "light", "mute": "mute"}
ROOMS = ("kitchen", "hall", "attic", "cellar")


def row(name, text, intent, **slots):
    return {"id": name, "text": text, "intent": intent, "slots": [{"type": k, "value": v} for k, v in slots.items()]}


@pytest.fixture
def rows():
    """Twelve sentences of three intents about four rooms."""
    return [row(f"{i}-{r}", f"{verb} the {r}", i, room=r) for i, verb in VERBS.items() for r in ROOMS]


@pytest.fixture
def written(tmp_path):
    """Write rows as a manifest; its path."""

    def write(rows, name="m.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
        return tmp_path / name

    return write


@pytest.fixture
def plan(tmp_path, capsys):
    """Call the command with a script of its own; what it printed and the lines of the script."""

    def call(*words, out="script.jsonl"):
        (tmp_path / out).unlink(missing_ok=True)
        code = cli.main(["data", "plan", *map(str, words), "--out", str(tmp_path / out)])
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out, [json.loads(line) for line in (tmp_path / out).read_text().splitlines()]

    return call


def ids(lines):
    return [line["id"] for line in lines]


def test_budgets_are_sentences_shares_and_minutes_of_one_order(rows, written, plan):
    manifest = written(rows)
    said, whole = plan(manifest, "--budget", "12")
    assert [line["number"] for line in whole] == list(range(1, 13))
    assert sorted(ids(whole)) == sorted(ids(rows))
    assert ids(plan(manifest, "--budget", "5")[1]) == ids(whole)[:5]
    assert ids(plan(manifest, "--budget", "25%")[1]) == ids(whole)[:3]
    estimates = [1 + len(line["text"]) / 15 for line in whole]
    assert [line["estimate_s"] for line in whole] == pytest.approx(estimates, abs=0.051)
    number = len(plan(manifest, "--budget", "0.2min")[1])
    assert sum(estimates[:number]) <= 12 < sum(estimates[: number + 1])
    assert f"12 sentences of 12, chosen by coverage: about {sum(estimates) / 60:.1f} minutes" in said
    assert "at 15 letters a second, spaces included, and 1 s of silence" in said


def test_what_is_covered_and_what_is_not_is_said_with_a_reason_for_each(rows, written, plan):
    said, lines = plan(written(rows), "--budget", "4")
    assert len({line["intent"] for line in lines}) == 3
    assert lines[0]["reason"].startswith(
        f"first of intent {lines[0]['intent']}; first with slot room; new slot value: room "
    )
    assert lines[0]["hints"] == [f"room: {lines[0]['slots'][0]['value']}"]
    table = {line.split()[0]: line.split() for line in said.splitlines() if line.startswith("  ")}
    assert table["intents"][1:4] == ["3", "of", "3"]
    covered = {word for line in lines for word in line["text"].split()}
    assert table["words"][1:4] == [str(len(covered)), "of", "9"]
    missing = {"warm", "up", "light", "mute", "the", *ROOMS} - covered
    assert all(word in said.split("words")[1] for word in missing)


def test_what_others_say_of_their_choice_is_its_reason(rows, written, plan, tmp_path):
    manifest = written(rows)
    assert all(
        "new word" in line["reason"] or "one more" in line["reason"]
        for line in plan(manifest, "--budget", 6, "--selector", "random")[1]
    )
    scores = written([{"id": one["id"], "p": i / 12} for i, one in enumerate(rows)], "scores.jsonl")
    lines = plan(manifest, f"scores={scores}", "column=p", "--budget", 2, "--selector", "uncertainty")[1]
    assert ids(lines) == ids(rows)[:2]
    assert lines[1]["reason"] == "p 0.0833, place 2 of 12"
    target = written([row("t", "mute the cellar", "mute", room="cellar")], "target.jsonl")
    lines = plan(manifest, f"target={target}", "--budget", 4, "--selector", "got_d")[1]
    assert {line["intent"] for line in lines} == {"mute"}
    assert lines[0]["reason"].startswith("the target has more like it")


def test_options_of_the_selector_stand_after_the_source(rows, written, plan):
    manifest = written(rows)
    orders = {
        tuple(ids(plan(manifest, f"seed={seed}", "--budget", 12, "--selector", "random")[1])) for seed in range(3)
    }
    assert len(orders) == 3


def test_a_sentence_that_stands_there_twice_is_recorded_once(rows, written, plan):
    again = [row("x", "Mute  the HALL!", "mute", room="hall"), row("y", "light the attic", "heat", room="attic")]
    said, lines = plan(written([*rows, *again]), "--budget", "12")
    assert sorted(ids(lines)) == sorted(ids(rows))
    assert "12 sentences to choose from" in said
    assert "1 stand there with several labels" in said


def test_recordings_of_the_source_and_of_another_manifest_count(rows, written, plan, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(16_000, 0.1), 16_000)
    recorded = {**row("rec", "warm up the hall", "heat", room="hall"), "audio": "a.wav"}
    labelled = {"id": "rec2", "audio": "a.wav", "intent": "light", "slots": [{"type": "room", "value": "attic"}]}
    test = {**row("later", "light the garage", "light", room="garage"), "split": "test"}
    said, lines = plan(written([*rows, recorded, labelled, test]), "--budget", "11")
    assert "heat-hall" not in ids(lines)
    assert "later" not in ids(lines)
    assert "11 sentences to choose from, each once; 1 are recorded already" in said
    assert "Covered, with 2 rows that count as recorded" in said
    _, first = plan(written(rows), "--budget", "4", out="first.jsonl")
    _, second = plan(written(rows), "--budget", "8", "--have", tmp_path / "first.jsonl")
    assert sorted([*ids(first), *ids(second)]) == sorted(ids(rows)), "an earlier script is what is recorded"
    assert not any("first of intent" in line["reason"] for line in second)
    assert ids(plan(written([*rows, test]), "--budget", "1", "--split", "test")[1]) == ["later"]


def test_the_pace_is_measured_where_there_are_recordings_with_words(rows, written, plan, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(16_000, 0.1), 16_000)
    spoken = [{**row(f"s{i}", "ten letters", "heat"), "audio": "a.wav", "duration_s": 2.2} for i in range(20)]
    said, lines = plan(written([*rows, *spoken]), "--budget", "3")
    assert "at 5 letters a second, spaces included, as in 20 recordings" in said
    assert lines[0]["estimate_s"] == pytest.approx(len(lines[0]["text"]) / 5, abs=0.051)


def test_a_corpus_and_a_recipe_are_sources_too(tmp_path, plan):
    barista.make_tiny(tmp_path / "corpus", 0)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {corpus: {name: barista, test_size: 2}, root: corpus}\n")
    from_recipe = plan(recipe, "seed=1", "--budget", "50%")[1]
    assert len(from_recipe) == 4
    barista.make_tiny(tmp_path / "csv", 0)
    lines = (tmp_path / "csv" / "text.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    with (tmp_path / "csv" / "train.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "text", "intent", "slots"])
        table.writerows([f"r{i}", one["text"], one["intent"], json.dumps(one["slots"])] for i, one in enumerate(rows))
    made = plan("seed=1", "--corpus", "csv", "--root", tmp_path / "csv", "--budget", "8")[1]
    assert {line["text"] for line in made} == {one["text"] for one in rows}
    assert {line["text"] for line in from_recipe} < {line["text"] for line in made}


def test_a_script_and_recordings_called_by_its_ids_become_a_manifest(rows, written, plan, tmp_path, capsys):
    said, _ = plan(written(rows), "--budget", "6")
    for suffix in ("csv", "jsonl"):
        out = tmp_path / f"script.{suffix}"
        if suffix == "csv":
            assert cli.main(["data", "plan", str(written(rows)), "--budget", "6", "--out", str(out)]) == 0
            lines = list(csv.DictReader(out.open(encoding="utf-8")))
            assert lines[0]["hints"] == f"room: {json.loads(lines[0]['slots'])[0]['value']}"
        (tmp_path / suffix).mkdir()
        chosen = read_manifest(tmp_path / "script.jsonl")
        for one in chosen:
            soundfile.write(
                tmp_path / suffix / f"{one.id}.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 16_000
            )
        command = [
            "init",
            "--text",
            str(out),
            "--audio",
            str(tmp_path / suffix),
            "--out",
            str(tmp_path / f"{suffix}-made"),
        ]
        assert cli.main(command) == 0, capsys.readouterr().err
        spoken = [one for one in read_manifest(tmp_path / f"{suffix}-made" / "manifest.jsonl", True) if one.audio]
        assert {(one.text, one.frame) for one in spoken} == {(one.text, one.frame) for one in chosen}
    assert f"lalm init --text {tmp_path / 'script.jsonl'} --audio FOLDER" in said


def test_a_page_to_read_from(written, tmp_path):
    manifest = written([row("a|b", "say *this* | that", "talk")])
    assert cli.main(["data", "plan", str(manifest), "--budget", "1", "--out", str(tmp_path / "page.md")]) == 0
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("# Recording script\n\n1 sentence of 1, chosen by coverage")
    line = page.splitlines()[-1]
    assert line.startswith(r"| 1 | **say \*this\* \| that** |")
    assert line.count(" | ") == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "0"], r"--budget 0: sentences \(50\), minutes \(10min\) or a share"),
        (["--budget", "ten"], r"--budget ten: sentences"),
        (["--budget", "1.5"], r"--budget 1\.5: sentences"),
        (["--budget", "101%"], r"--budget 101%: sentences"),
        (["--budget", "13"], r"--budget 13: there are 12 sentences to choose from"),
        (["--budget", "1%"], r"less than half a sentence"),
        (["--budget", "0.01min"], r"0\.01 minutes are shorter than the first sentence"),
        (["--budget", "2", "--selector", "coverge"], r"'coverge'.*Did you mean 'coverage'"),
        (
            ["--budget", "2", "ngram_lenth=2"],
            r"coverage\.ngram_lenth: there is no such key. Did you mean 'ngram_length'",
        ),
        (["--budget", "2", "name=random"], r"coverage\.name: there is no such key"),
        (["--budget", "2", "--selector", "uncertainty"], r"scores=PREDICTIONS"),
        (["--budget", "2", "--split", "test"], r"no sentence of the split 'test' is left to record \(0 are recorded"),
        (["--budget", "2", "--root", "x"], r"or --corpus NAME --root FOLDER"),
        (["--budget", "2", "--have", "nowhere.jsonl"], r"nowhere\.jsonl: cannot be read"),
    ],
)
def test_mistakes_are_answered_and_nothing_is_written(words, said, rows, written, tmp_path, capsys):
    import re

    out = tmp_path / "script.csv"
    assert cli.main(["data", "plan", str(written(rows)), *words, "--out", str(out)]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not out.exists()


def test_other_files_are_left_alone(rows, written, tmp_path, capsys):
    manifest = written(rows)
    assert cli.main(["data", "plan", str(manifest), "--budget", "2", "--out", str(manifest)]) == 2
    assert "exists already and is not overwritten" in capsys.readouterr().err
    assert cli.main(["data", "plan", str(manifest), "--budget", "2", "--out", str(tmp_path / "s.docx")]) == 2
    assert "Allowed: .csv, .jsonl, .md" in capsys.readouterr().err
    assert cli.main(["data", "plan", "--corpus", "csv", "--budget", "2", "--out", str(tmp_path / "s.csv")]) == 2
    assert "--corpus csv needs --root" in capsys.readouterr().err
