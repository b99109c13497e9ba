"""Files that are wrong, by mistake or by intent: all of it is said, nothing is run, nothing is written."""

from __future__ import annotations

import base64
import json
import zipfile

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lalm import plugins
from lalm.cli import main
from lalm.data.importing import import_rows
from lalm.errors import UserError
from lalm.formats import _tree, rasa


def test_every_bad_row_is_listed_with_file_line_and_value(tmp_path, refused, lines):
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    file = lines(
        tmp_path / "m.jsonl",
        good,
        "{no json",
        [],
        {"messages": "none"},
        {"messages": [{"role": "robot", "content": "a"}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": "<audio>a"}, {"role": "assistant", "content": "b"}]},
        {**good, "audios": ["a.wav", "b.wav"]},
        {**good, "audios": ["https://example.org/a.wav"]},
        {**good, "audios": ["data:audio/wav;base64,???"]},
        {**good, "audios": ["data:audio/wav;base64," + base64.b64encode(b"no sound").decode()]},
        {**good, "split": "tomorrow"},
        {**good, "audios": ["gone.wav"]},
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "text": "half \\ud800"}',
    )
    said = refused("import", "messages_jsonl", file, "--out", tmp_path / "in")
    for part in (
        "14 problems",
        "m.jsonl, line 2: is not one JSON object",
        "line 3: is no object",
        "line 4: field 'messages' is no list of messages",
        "line 5: field 'messages[0].role' is 'robot'; allowed: system, user, assistant, tool",
        "line 6: field 'messages[0].content' is 5, a string is needed",
        "line 7: '<audio>' stands there 1 times and 'audios' names 0 recordings",
        "line 8: field 'audios' names 2 recordings",
        "line 9: 'https://example.org/a.wav' is an address",
        "line 10: the sound inside is not base64",
        "line 11: the sound inside cannot be used: is no WAV, FLAC, OGG or MP3",
        "line 12: field 'split' is \"tomorrow\"; allowed: train, dev, test",
        "gone.wav: there is no such file",
        "line 14: field 'text'",
    ):
        assert part in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.jsonl"]


def test_bad_rows_are_left_out_when_asked(tmp_path, run, rows_of, lines):
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    said = run(
        "import",
        "messages_jsonl",
        lines(tmp_path / "m.jsonl", good, "{no json"),
        "--skip-bad",
        "--out",
        tmp_path / "in",
    )
    assert "Left out: 1 problem." in said
    assert "line 2: is not one JSON object" in said
    assert len(rows_of(tmp_path / "in")) == 1


@pytest.mark.parametrize("name", ["/etc/hostname", "../secret.wav", "a/../../secret.wav", "file:///etc/hostname"])
def test_paths_that_leave_the_folder_are_refused(name, tmp_path, refused, lines):
    soundfile.write(tmp_path / "secret.wav", np.zeros(80), 16_000)
    folder = tmp_path / "data"
    messages = [{"role": "user", "content": "<audio>a"}, {"role": "assistant", "content": "b"}]
    chat = [{"role": "user", "content": [{"type": "audio", "audio": name}]}, {"role": "assistant", "content": "b"}]
    files = {
        "messages_jsonl": lines(folder / "m.jsonl", {"messages": messages, "audios": [name]}),
        "openai": lines(folder / "o.jsonl", {"messages": chat}),
        "nemo": lines(folder / "n.json", {"audio_filepath": name, "duration": 1, "text": "a"}),
        "hf": lines(folder / "folder" / "metadata.jsonl", {"file_name": name, "text": "a"}).parent,
    }
    for format_name, source in files.items():
        if name.startswith("file:") and format_name in ("nemo", "hf"):
            continue
        said = refused("import", format_name, source, "--out", tmp_path / "in")
        assert "leaves the data folder. Allowed only with allow_outside_paths=true" in said, format_name
    if name.startswith("file:"):
        return
    piece = lines(folder / "p.json", {"audio_filepath": name, "offset": 0.001, "duration": 1, "text": "a"})
    assert "leaves the data folder" in refused("import", "nemo", piece, "--out", tmp_path / "in")


def test_a_manifest_that_is_there_is_not_overwritten(tmp_path, refused, lines):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    file = lines(tmp_path / "m.jsonl", {"messages": messages})
    lines(tmp_path / "in" / "manifest.jsonl", {"id": "x", "text": "mine"})
    assert "exists already" in refused("import", "messages_jsonl", file, "--out", tmp_path / "in")
    assert "mine" in (tmp_path / "in" / "manifest.jsonl").read_text()
    assert "exists already" in refused("export", "messages_jsonl", tmp_path / "in", "--out", file)


def test_near_misses_are_answered(tmp_path, refused):
    assert "Did you mean 'nemo'?" in refused("import", "nmeo", "x", "--out", tmp_path / "in")
    assert "Did you mean 'language'?" in refused("import", "nemo", "x", "langauge=de", "--out", tmp_path / "in")
    assert "there is no such file or folder" in refused("import", "nemo", tmp_path / "x", "--out", tmp_path / "in")


YAMLS = {
    "a tag that would run something": (
        'nlu: !!python/object/apply:os.system ["touch ran"]\n',
        "could not determine a constructor",
    ),
    "a bomb of aliases": ("a: &a [x, x]\nb: &b [*a, *a]\nnlu: [*b, *b]\n", "aliases (*name) are not read"),
    "a merge of aliases": ("a: &a {x: 1}\nnlu:\n- <<: *a\n", "aliases (*name) are not read"),
    "nested without end": ("nlu: " + "[" * 5000, "nested too deeply"),
    "no mapping": ("- a\n- b\n", "a mapping is needed"),
    "no list": ("nlu: {a: b}\n", "field 'nlu' is a dict, a list is needed"),
    "examples of the wrong kind": ("nlu:\n- intent: a\n  examples: {b: c}\n", "line 2: field 'nlu[0].examples'"),
    "lines that are no examples": ("nlu:\n- intent: a\n  examples: |\n    hello\n", "'hello' does not begin with '- '"),
    "an entity that is no JSON": ('nlu:\n- intent: a\n  examples: |\n    - [b]{"entity" c}\n', "is not JSON"),
    "binary": ("nlu:\0\1", "not valid YAML"),
    "an endless example": (
        "nlu:\n- intent: a\n  examples: |\n    - " + "[" * 400_000 + "\n",
        "is longer than 5000 characters",
    ),
    "neither intent nor lookup": ("nlu:\n- rule: a\n", "names no intent, synonym, lookup or regex"),
}


@pytest.mark.parametrize("name", YAMLS)
def test_yaml_that_is_hostile(name, tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, part = YAMLS[name]
    (tmp_path / "nlu.yml").write_text(text, encoding="utf-8")
    said = refused("import", "rasa", tmp_path / "nlu.yml", "--out", tmp_path / "in")
    assert part in said
    assert "nlu.yml" in said
    assert [path.name for path in tmp_path.iterdir()] == ["nlu.yml"]


def test_words_of_yaml_stay_words(tmp_path, run, rows_of):
    text = "nlu:\n- intent: no\n  examples: |\n    - never\n- intent: 2020-01-01\n  examples: |\n    - today\n"
    (tmp_path / "nlu.yml").write_text(text, encoding="utf-8")
    run("import", "rasa", tmp_path / "nlu.yml", "--out", tmp_path / "in")
    assert [row.frame.intent for row in rows_of(tmp_path / "in").values()] == ["no", "2020-01-01"]


def archive(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def test_a_zip_is_never_unpacked_and_a_bomb_is_not_read(tmp_path, refused, run, rows_of, monkeypatch):
    phrases = json.dumps([{"data": [{"text": "hello"}]}])
    evil = archive(
        tmp_path / "evil.zip", {"../../intents/x_usersays_en.json": phrases, "intents/y_usersays_en.json": phrases}
    )
    run("import", "dialogflow", evil, "--out", tmp_path / "in")
    assert [row.frame.intent for row in rows_of(tmp_path / "in").values()] == ["y"]
    monkeypatch.setattr(_tree, "MAX_FILE_BYTES", 1_000_000)
    bomb = archive(tmp_path / "bomb.zip", {"intents/x_usersays_en.json": b"[" + b" " * 5_000_000})
    assert bomb.stat().st_size < 100_000
    assert "is more than is read" in refused("import", "dialogflow", bomb, "--out", tmp_path / "b")
    monkeypatch.setattr(_tree, "MAX_FILES", 3)
    many = archive(tmp_path / "many.zip", {f"intents/{n}_usersays_en.json": phrases for n in range(4)})
    assert "holds 4 files, more than the 3 that are read" in refused(
        "import", "dialogflow", many, "--out", tmp_path / "b"
    )
    monkeypatch.setattr(_tree, "MAX_BYTES", 50)
    assert "bytes, more than the 50 that are read" in refused("import", "dialogflow", evil, "--out", tmp_path / "b")
    broken = bytearray(archive(tmp_path / "whole.zip", {"intents/y_usersays_en.json": phrases}).read_bytes())
    broken[56:66] = b"\xff" * 10  # the packed bytes, behind a header of 30 bytes and the name of 26
    monkeypatch.setattr(_tree, "MAX_BYTES", 5000)
    (tmp_path / "broken.zip").write_bytes(bytes(broken))
    said = refused("import", "dialogflow", tmp_path / "broken.zip", "--out", tmp_path / "b")
    assert "y_usersays_en.json: is not JSON that can be read" in said
    (tmp_path / "no.zip").write_bytes(b"PK\3\4 nothing")
    assert "a folder or a zip file is needed" in refused(
        "import", "dialogflow", tmp_path / "no.zip", "--out", tmp_path / "b"
    )


def test_dialogflow_problems_are_all_listed(tmp_path, refused):
    root = tmp_path / "agent" / "intents"
    root.mkdir(parents=True)
    phrases = [
        {"data": [{"text": "hello"}]},
        {"data": "none"},
        {"data": [{"words": "x"}]},
        {"data": [{"text": " ", "alias": "a"}]},
        {"data": [{"text": "@size:size", "alias": "size"}], "isTemplate": True},
        7,
    ]
    (root / "x_usersays_en.json").write_text(json.dumps(phrases))
    (root / "y_usersays_en.json").write_text("{")
    said = refused("import", "dialogflow", tmp_path / "agent", "--out", tmp_path / "in")
    assert "6 problems" in said
    for number in (2, 3, 4, 5, 6):
        assert f"x_usersays_en.json: phrase {number}: " in said
    assert "y_usersays_en.json: is not JSON" in said


def test_slots_that_are_not_said_cannot_be_marked(tmp_path, refused, lines):
    rows = [
        {"id": "a", "text": "wake me at nine", "intent": "alarm", "slots": [{"type": "time", "value": "9:00"}]},
        {"id": "b", "text": "see [this](link)", "intent": "look"},
        {"id": "c", "text": "hello", "intent": None},
    ]
    manifest = lines(tmp_path / "m.jsonl", *rows)
    said = refused("export", "rasa", manifest, "--out", tmp_path / "nlu.yml")
    assert "3 problems; nothing was written" in said
    assert "row 'a': slot 'time': '9:00' does not stand in 'wake me at nine'" in said
    assert "row 'b': 'see [this](link)': brackets" in said
    assert "row 'c': has no text or no intent" in said
    assert "row 'a'" in refused("export", "dialogflow", manifest, "--out", tmp_path / "agent")
    assert "row 'a'" in refused("export", "slurp", manifest, "--out", tmp_path / "s.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]


def test_names_that_are_no_file_names_are_refused(tmp_path, refused, lines):
    manifest = lines(tmp_path / "m.jsonl", {"id": "a", "text": "hi", "intent": "../../etc/x"})
    assert "'../../etc/x' is to be the name of a file" in refused(
        "export", "dialogflow", manifest, "--out", tmp_path / "agent"
    )


# -- anything at all ----------------------------------------------------------------------------------------------------------

KEYS = [
    "messages",
    "role",
    "content",
    "audios",
    "audio_filepath",
    "duration",
    "text",
    "slots",
    "type",
    "value",
    "offset",
    "data",
    "alias",
    "tokens",
    "surface",
    "entities",
    "span",
    "recordings",
    "file",
    "sentence",
    "intent",
    "turns",
    "slurp_id",
    "scenario",
    "action",
    "input_audio",
    "id",
    "meta",
    "speaker",
    "language",
    "split",
]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


def nested(depth):
    """JSON of the keys that formats have, `depth` deep at most."""
    if depth == 0:
        return LEAVES
    inner = nested(depth - 1)
    return LEAVES | st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)


JSON = nested(4)
FORMATS = [name for name in plugins.names("formats") if name not in ("hf", "rasa", "dialogflow")]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(JSON, min_size=1, max_size=4), name=st.sampled_from(FORMATS), cut=st.integers(0, 30))
def test_any_json_lines_are_read_or_refused(values, name, cut, tmp_path):
    """No traceback, whatever stands there; what is refused leaves nothing."""
    text = "\n".join(json.dumps(one) for one in values)
    (tmp_path / "any.jsonl").write_text(text[: len(text) - cut], encoding="utf-8")
    check(name, tmp_path / "any.jsonl", tmp_path)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON, data=st.data())
def test_any_export_of_an_assistant_is_read_or_refused(value, data, tmp_path):
    name = data.draw(st.sampled_from(["rasa", "dialogflow"]))
    if name == "rasa":
        path = tmp_path / "any.yml"
        text = json.dumps({"nlu": value}) if data.draw(st.booleans()) else data.draw(st.text(max_size=40))
        path.write_text(text, encoding="utf-8", errors="replace")
    else:
        path = tmp_path / "agent"
        (path / "intents").mkdir(parents=True, exist_ok=True)
        (path / "intents" / "x_usersays_en.json").write_text(json.dumps([value]), encoding="utf-8")
    check(name, path, tmp_path)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='[](){}:"entiyvalue ,', max_size=60))
def test_any_example_of_rasa_is_parsed_or_refused(example):
    try:
        text, found = rasa.parse_example(example)
    except ValueError:
        return
    assert all(one["said"] in text for one in found)


def check(name, source, tmp_path):
    out = tmp_path / "out"
    try:
        import_rows(name, str(source), out)
    except UserError:
        assert not out.exists()
    else:
        assert (out / "manifest.jsonl").is_file()
        for path in out.iterdir():
            path.unlink()
        out.rmdir()


def test_a_file_that_is_no_audio_is_not_carried_away(tmp_path, capsys):
    """Formats that hold the sound copy files; what a row of predictions or a stated length says makes none of them audio."""
    secret = tmp_path / "secret"
    secret.write_text("not for others")
    answered = {
        "id": "a",
        "gold": {"intent": "i", "slots": []},
        "prediction": {"intent": "i", "slots": []},
        "status": "ok",
        "audio": str(secret),
    }
    (tmp_path / "p.jsonl").write_text(json.dumps(answered), encoding="utf-8")
    assert (
        main(["data", "export", "hf", str(tmp_path / "p.jsonl"), "layout=audiofolder", "--out", str(tmp_path / "e")])
        == 2
    )
    assert "secret: is not audio" in capsys.readouterr().err
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").symlink_to(secret)
    row = {"id": "a", "text": "hi", "intent": "i", "audio": "a.wav", "duration_s": 1.0}
    (tmp_path / "in" / "manifest.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert main(["data", "export", "hf", str(tmp_path / "in"), "layout=audiofolder", "--out", str(tmp_path / "e")]) == 2
    assert main(["data", "import", "jsonl", str(tmp_path / "in"), "--copy-audio", "--out", str(tmp_path / "i")]) == 2
    assert "not audio" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize("name", ["rasa", "dialogflow", "slurp", "nemo"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"id": 5},
        {"text": 12},
        {"heard": ["a"]},
        {"audio": 3},
        {"prediction": {"intent": 5, "slots": []}},
        {"prediction": {"intent": "i", "slots": [{"type": 1, "value": 2}]}},
        {"prediction": "free words"},
        {"gold": None},
        {"status": "fine"},
    ],
)
def test_predictions_that_are_malformed_are_listed_and_not_exported(name, wrong, tmp_path, capsys):
    frame = {"intent": "i", "slots": []}
    good = {"id": "a", "gold": frame, "prediction": frame, "status": "ok", "text": "say it"}
    rows = [good, {**good, "id": "b", **wrong}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert main(["data", "export", name, str(tmp_path / "p.jsonl"), "--out", str(tmp_path / "e")]) == 2
    assert f"p.jsonl, line 2: field '{next(iter(wrong))}'" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_an_export_of_nothing_is_refused(tmp_path, capsys):
    row = {"id": "a", "text": "hi", "intent": "i", "split": "train"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row), encoding="utf-8")
    out = tmp_path / "out.jsonl"
    assert (
        main(["data", "export", "messages_jsonl", str(tmp_path / "m.jsonl"), "--split", "dev", "--out", str(out)]) == 2
    )
    assert "holds no rows of the split 'dev'" in capsys.readouterr().err
    assert not out.exists()


def test_one_bad_split_of_a_corpus_does_not_take_the_others_along(tmp_path, capsys):
    header, good = "text,intent,language", "go,go,en"
    (tmp_path / "c").mkdir()
    for name, rows in (("train", [good] * 3), ("dev", [good, "bad,bad,elvish"]), ("test", [good, good])):
        lines = [f"{row.replace('go', f'go {name} {number}', 1)}" for number, row in enumerate(rows)]
        (tmp_path / "c" / f"{name}.csv").write_text("\n".join([header, *lines]), encoding="utf-8")
    assert main(["data", "import", "csv", str(tmp_path / "c"), "--out", str(tmp_path / "all")]) == 2
    assert "elvish" in capsys.readouterr().err
    assert not (tmp_path / "all").exists()
    assert main(["data", "import", "csv", str(tmp_path / "c"), "--skip-bad", "--out", str(tmp_path / "some")]) == 0
    said = capsys.readouterr().out
    rows = [
        json.loads(line) for line in (tmp_path / "some" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [row["split"] for row in rows] == ["train"] * 3 + ["test"] * 2
    assert "split dev: the corpus gives all of its rows or none" in said


def test_fields_of_nemo_that_are_called_as_ours_replace_nothing(tmp_path):
    soundfile.write(tmp_path / "0.wav", np.zeros(8000), 16_000)
    row = {
        "audio_filepath": "0.wav",
        "duration": 0.5,
        "text": "hello",
        "audio": "rec/1.wav",
        "source": "en",
        "split": "validation",
    }
    (tmp_path / "n.jsonl").write_text(json.dumps(row), encoding="utf-8")
    import_rows("nemo", str(tmp_path / "n.jsonl"), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "manifest.jsonl").read_text(encoding="utf-8"))
    assert found["audio"].endswith("0.wav")
    assert (found["split"], found["source"]) == ("dev", "recorded")
    assert found["meta"] == {"audio": "rec/1.wav", "source": "en"}
