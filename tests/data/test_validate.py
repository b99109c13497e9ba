"""`lalm data validate`: each problem is found, in its row, and nothing else is; the page holds all that it needs."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lalm import plugins
from lalm.cli import main
from lalm.data.findings import CHECKS
from lalm.data.row_checks import clipped_share, plain
from lalm.data.rowstore import repeated
from lalm.data.validate import validate
from lalm.errors import UserError
from lalm.report.data_page import data_page, write_data_page

SNIPPETS = [b"NaN", b"1e999", b"null", b"[]", b"{", b'"', b"\\ud800", b"\\u0000", b"-1", b"\n", b"../", b"true"]
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RATE_HZ = 16_000


def tone(seconds=1.0, level=0.3, rate=RATE_HZ, seed=0):
    """Something that is neither silent nor clipped nor like another."""
    time = np.arange(int(seconds * rate)) / rate
    wobble = np.sin(2 * np.pi * (180 + 7 * seed) * time) * np.hanning(len(time))
    return level * wobble + 0.001 * np.random.default_rng(seed).standard_normal(len(time))


@cache
def sound_of(kind):
    """A short file of a format."""
    encoded = io.BytesIO()
    soundfile.write(encoded, tone(0.3), RATE_HZ, format=kind)
    return encoded.getvalue()


def manifest(folder, *rows, name="manifest.jsonl"):
    """A manifest; a string is written as it is. Recordings are given as samples, or samples and rate."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index, row in enumerate(rows):
        if isinstance(row, str):
            lines.append(row)
            continue
        row = {"id": f"r{index}", "intent": "on", **row}
        sound = row.get("audio")
        if sound is not None and not isinstance(sound, str):
            samples, rate = sound if isinstance(sound, tuple) else (sound, RATE_HZ)
            row["audio"] = f"{index}.wav"
            soundfile.write(folder / row["audio"], samples, rate, subtype="FLOAT")
        lines.append(json.dumps(row))
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def found(path, **options):
    """What was found: (check, row) in order, one for each problem."""
    findings = validate(path, **options)
    assert sum(map(len, findings.problems.values())) == sum(findings.counts.values())
    return sorted((one.check, one.row or "") for problems in findings.problems.values() for one in problems)


GOOD = [
    {"text": "turn the light on in the hall", "audio": tone(1.1, seed=1), "speaker": "anna"},
    {"text": "lights off, please", "intent": "off"},
    {"text": "hello there", "audio": tone(1.2, seed=2), "speaker": "ben", "split": "test"},
    {"text": "LIGHTS!", "intent": "off", "slots": [{"type": "what", "value": "lights"}]},
]


def test_good_data_have_no_problems(tmp_path, capsys):
    path = manifest(tmp_path, *GOOD)
    assert found(path, decode=True) == []
    assert main(["data", "validate", str(path), "--decode"]) == 0
    out = capsys.readouterr().out
    assert "No problems were found." in out
    assert re.search(r"^train +3 +1 ", out, re.MULTILINE)


ROWS = {
    # check: rows that are added, the rows (by number) that must be named
    "row": (["{broken", {"text": 5}, {"text": "a", "audio": "../x.wav"}, [1]], ["", "r5", "r6", ""]),
    "id_twice": ([{"id": "r1", "text": "again"}], ["r1"]),
    "audio_missing": ([{"audio": "none.wav"}], ["r4"]),
    "audio_unreadable": ([{"audio": "empty.wav"}, {"audio": "words.wav"}, {"audio": "cut.wav"}], ["r4", "r5", "r6"]),
    "audio_in_both": ([{"audio": "0.wav", "split": "test"}], ["r4"]),
    "speaker_in_test": ([{"audio": tone(seed=3), "speaker": "anna", "split": "test"}], ["r4"]),
    "speaker_in_dev": ([{"audio": tone(seed=3), "speaker": "anna", "split": "dev"}], ["r4"]),
    "label_unseen": ([{"text": "dim", "intent": "dim", "split": "test"}], ["r4"]),
    "label_missing": ([{"text": "dim", "intent": None}, {"text": "why", "intent": None, "answers": ["so"]}], ["r4"]),
    "label_conflict": ([{"text": "Lights off please", "intent": "on"}], ["r4"]),
    "slot_unsaid": ([{"text": "at nine", "slots": [{"type": "t", "value": "9:00"}, {"type": "t", "value": "Nine"}]}], ["r4"]),
    "text_in_both": ([{"text": "lights off please!", "intent": "off", "split": "dev"}], ["r4"]),
    "text_near": ([{"text": "Turn the lamp on in the hall", "split": "test"}, {"text": "turn on", "split": "test"}], ["r4"]),
    "duration_stated": ([{"audio": tone(seed=3), "duration_s": 2}, {"audio": tone(seed=4), "duration_s": 1.05}], ["r4"]),
    "duration_odd": ([{"audio": tone(0.1, seed=3)}, {"audio": tone(31, seed=4)}], ["r4", "r5"]),
    "channels": ([{"audio": np.stack([tone(seed=3), tone(seed=4)], 1)}], ["r4"]),
    "sample_rate": ([{"audio": (tone(rate=8000, seed=3), 8000)}], ["", "r4"]),
}  # fmt: skip


@pytest.mark.parametrize("check", ROWS)
def test_each_problem_is_found_and_nothing_else(check, tmp_path):
    rows, named = ROWS[check]
    path = manifest(tmp_path, *GOOD, *(json.dumps(row) if isinstance(row, list) else row for row in rows))
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "words.wav").write_bytes(b"no sound at all" * 99)
    raw = (tmp_path / "0.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(raw[: len(raw) // 2])
    assert found(path) == sorted((check, row) for row in named)


DECODED = {
    "audio_silent": [{"audio": tone(level=0) * 0.01}, {"audio": np.zeros(16_000)}],
    "audio_clipped": [{"audio": np.clip(20 * tone(seed=3), -0.8, 0.8)}],
    "audio_nan": [{"audio": np.full(16_000, np.nan)}, {"audio": np.append(tone(seed=3), np.inf)}],
    "audio_in_both": [{"audio": tone(1.1, seed=1), "split": "test"}],  # the sound of r0 under another name
}


@pytest.mark.parametrize("check", DECODED)
def test_decoding_finds_what_headers_do_not_say(check, tmp_path):
    path = manifest(tmp_path, *GOOD, *DECODED[check])
    assert found(path) == []
    assert found(path, decode=True) == [(check, f"r{4 + index}") for index in range(len(DECODED[check]))]


def test_a_recording_that_is_unlike_the_others_is_odd(tmp_path):
    """Judged by the data: ten seconds are long among commands of one second, and usual among readings of ten."""
    short = [{"audio": tone(1 + index / 50, seed=index)} for index in range(20)]
    long = [{"audio": tone(9 + index / 10, seed=index)} for index in range(20)]
    assert found(manifest(tmp_path / "a", *short, {"audio": tone(10, seed=30)})) == [("duration_odd", "r20")]
    assert found(manifest(tmp_path / "b", *long, {"audio": tone(10, seed=30)})) == []


def test_labels_are_held_against_an_ontology(tmp_path):
    ontology = {
        "intents": ["on", "off"],
        "slots": {"what": {"values": ["lights"], "closed": True, "synonyms": {"lamp": "lights"}}, "time": ["nine"]},
    }
    rows = [
        {"text": "lights on", "slots": [{"type": "what", "value": "LIGHTS"}]},
        {"text": "lamp on", "slots": [{"type": "what", "value": "lamp"}]},
        {"text": "at ten", "slots": [{"type": "time", "value": "ten"}]},  # an open list
        {"text": "tv on", "slots": [{"type": "what", "value": "tv"}]},
        {"text": "dim", "intent": "onn"},
        {"text": "in the hall", "slots": [{"type": "room", "value": "hall"}]},
    ]
    path = manifest(tmp_path, *rows)
    assert found(path) == []
    (tmp_path / "other.json").write_text(json.dumps(ontology), encoding="utf-8")
    expected = [("label_forbidden", f"r{index}") for index in (3, 4, 5)]
    assert found(path, ontology=tmp_path / "other.json") == expected
    (tmp_path / "other.json").rename(tmp_path / "ontology.json")  # beside the manifest
    problems = validate(path).problems["label_forbidden"]
    assert [(one.row, one.field, one.value) for one in problems] == [
        ("r3", "slots[0].value", "tv"), ("r4", "intent", "onn"), ("r5", "slots[0].type", "room"),
    ]  # fmt: skip
    assert "Did you mean 'on'?" in problems[1].message
    (tmp_path / "ontology.json").write_text('{"intents": 3, "slots": {"a": {"closed": "yes"}}}')
    with pytest.raises(UserError, match=r"2 problems") as caught:
        validate(path)
    assert "field 'intents' is 3" in str(caught.value)


def test_a_problem_says_file_line_row_field_and_value(tmp_path, capsys):
    path = manifest(
        tmp_path, *GOOD, '{"id": "x", "text": 7}', {"text": "at nine", "slots": [{"type": "t", "value": "ten"}]}
    )
    assert main(["data", "validate", str(path), "--json"]) == 2
    out, err = capsys.readouterr()
    value = json.loads(out)
    assert (value["errors"], value["warnings"]) == (1, 1)
    first, second = value["problems"]
    assert first == {
        "severity": "error", "check": "row", "message": "field 'text' is 7, a string is needed.", "file": str(path), "line": 5,
        "row": "x", "field": "text", "value": "7",
    }  # fmt: skip
    assert (second["line"], second["row"], second["field"], second["value"]) == (6, "r5", "slots[0].value", "ten")
    assert value["checks"]["slot_unsaid"]["count"] == 1
    assert value["splits"]["train"]["rows"] == 4
    assert err == f"lalm: {path}: 1 error must be mended.\n"


def test_warnings_alone_are_exit_code_0(tmp_path, capsys):
    path = manifest(tmp_path, *GOOD, {"text": "at nine", "slots": [{"type": "t", "value": "ten"}]})
    assert main(["data", "validate", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "0 errors, 1 warning." in out
    assert f"{path}:5  r4  t 'ten' is not said in 'at nine'." in out
    assert "--decode looks for silence" in out
    assert err == ""


def test_all_rows_are_listed_in_json_and_counted_in_the_table(tmp_path, capsys):
    path = manifest(tmp_path, {"text": "a"}, *({"text": 5} for _ in range(250)))
    assert main(["data", "validate", str(path), "--json"]) == 2
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 250
    assert main(["data", "validate", str(path)]) == 2
    assert "and 240 more; --json lists all" in capsys.readouterr().out


# -- what can be named -------------------------------------------------------------------------------------------------------


def test_a_folder_of_manifests_and_a_recipe(tmp_path):
    rows = [{"text": "one light on"}, {"text": "two lights on"}]
    for split in ("train", "test"):
        manifest(tmp_path / "d", *rows, name=f"{split}.jsonl")
    expected = [("text_in_both", "r0"), ("text_in_both", "r1")]  # an id is one's own within a file
    assert found(tmp_path / "d") == expected
    (tmp_path / "recipe.yaml").write_text("data: {corpus: jsonl, root: d}\nbackbone: {name: none-such}\n")
    assert found(tmp_path / "recipe.yaml") == expected
    (tmp_path / "wrong.yaml").write_text("data: {corpus: jsonl, rot: d}\n")
    with pytest.raises(UserError, match=r"data\.rot: there is no such key\. Did you mean 'root'"):
        validate(tmp_path / "wrong.yaml")


def test_a_recipe_with_another_corpus(tmp_path):
    module = plugins.load("corpora", "csv")
    module.make_tiny(tmp_path, 0)
    (tmp_path / "recipe.yaml").write_text("data: {corpus: csv, root: labels.csv}\n")
    checks = {check for check, _ in found(tmp_path / "recipe.yaml", decode=True)}
    assert checks == {"text_in_both"}  # the tiny corpus says its training sentences again in its test
    table = (tmp_path / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text(table.replace("audio/3.wav", "audio/gone.wav"))
    findings = validate(tmp_path / "recipe.yaml")
    assert [one.check for one in findings.problems["row"]] == ["row"]
    assert "gone.wav: there is no such file" in findings.problems["row"][0].message
    assert findings.splits["train"].rows == 8  # the split that can be read is looked at all the same


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="there is no such file or folder"):
        validate(tmp_path / "gone.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="holds no rows"):
        validate(tmp_path / "empty.jsonl")
    with pytest.raises(UserError, match=r"holds neither train\.jsonl nor manifest\.jsonl"):
        validate(tmp_path)


def test_paths_may_leave_the_folder_when_allowed(tmp_path):
    soundfile.write(tmp_path / "out.wav", tone(), RATE_HZ)
    path = manifest(tmp_path / "d", {"audio": "../out.wav"})
    assert found(path) == [("row", "r0")]
    assert found(path, allow_outside=True) == []


# -- the page ----------------------------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """Tags that are closed, addresses, ids and visible words."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.ids, self.words, self.players = [], [], [], [], 0

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.players += tag == "audio"
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "br", "link", "img", "path", "use", "rect", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_whole_and_safe(tmp_path, capsys):
    evil = "<script>alert('x')</script>"
    rows = [
        *GOOD,
        {"id": evil, "text": evil, "intent": evil, "slots": [{"type": evil, "value": "\"><img src=x onerror=alert(1)>"}]},
        {"audio": np.clip(20 * tone(seed=3), -0.8, 0.8)},
        {"audio": np.full(16_000, np.nan)},
        {"audio": "none.wav"},
        {"text": 5},
    ]  # fmt: skip
    path = manifest(tmp_path, *rows)
    page = tmp_path / "out" / "page.html"
    assert main(["data", "validate", str(path), "--decode", "--html", str(page)]) == 2
    assert f"Done: {page}" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<img" not in text
    parsed = _Page()
    parsed.feed(text)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert all(one.startswith(("#", "data:audio/")) for one in parsed.addresses), "the page loads nothing"
    assert {one[1:] for one in parsed.addresses if one[0] == "#"} <= set(parsed.ids)
    assert parsed.players == 3  # the two good ones and the clipped one; NaN is no sound
    words = " ".join(parsed.words)
    assert "alert('x')" in words
    for check in ("row", "audio_missing", "audio_nan", "audio_clipped", "slot_unsaid"):
        assert CHECKS[check][1] in words or CHECKS[check][1].capitalize() in words
    assert "holds NaN or infinite samples, 16000 of 16000" in words


def test_the_page_of_good_data_and_of_text_alone(tmp_path):
    text = data_page(validate(manifest(tmp_path, {"text": "lights on"}, {"text": "lights off", "split": "test"})))
    assert "No problems were found." in text
    assert "<audio" not in text
    assert text.count('<svg class="figure"') == 2
    with pytest.raises(UserError, match="is a folder"):
        write_data_page(validate(tmp_path), tmp_path)


# -- pieces, against something independent ------------------------------------------------------------------------------------


def test_clipping_is_measured_in_runs_at_the_peak():
    assert clipped_share(tone()[:, None], 0.3) == 0  # too quiet to have been clipped
    loud = 0.9 * np.sin(np.arange(16_000) / 40)
    assert clipped_share(loud[:, None], 0.9) == 0
    steep = 0.9 * np.random.default_rng(0).uniform(-1, 1, 16_000)
    assert clipped_share(steep[:, None], float(np.abs(steep).max())) == 0
    cut = np.clip(steep * 4, -0.9, 0.9)
    at_peak = np.abs(cut) >= 0.9
    runs = [
        len(run)
        for sign in (1, -1)
        for run in re.findall("1{3,}", "".join(map(str, (sign * cut >= 0.89991).astype(int))))
    ]
    assert clipped_share(cut[:, None], 0.9) == pytest.approx(sum(runs) / 16_000)
    assert 0 < sum(runs) < at_peak.sum()


def test_repeated_values_are_found():
    values = np.random.default_rng(0).integers(0, 40, 200).astype(np.uint64)
    expected = [[i for i in range(200) if values[i] == v] for v in range(1, 40)]
    assert [list(one) for one in repeated(values)] == [one for one in expected if len(one) > 1]
    assert list(repeated(np.array([0, 0, 3], dtype=np.uint64))) == []


def test_plain_words():
    assert plain("  It's 9:15, s'il vous plaît! ") == "it s 9 15 s il vous plaît"
    assert plain("ＡＢＣ") == "abc"
    assert plain("?!") == ""


def test_real_slurp_has_no_errors_and_its_leaks_are_counted(tmp_path):
    """Duplicates across splits as a set of sentences counts them."""
    if not (DATA / "slurp").is_dir():
        pytest.skip(f"{DATA / 'slurp'} is not there: real data do not come with the project")
    (tmp_path / "recipe.yaml").write_text(
        f"data: {{corpus: {{name: slurp, train: devel.jsonl, dev: null}}, root: {DATA / 'slurp'}}}\n"
    )
    findings = validate(tmp_path / "recipe.yaml")
    assert findings.number("error") == 0
    sentences = {}
    for split, name in (("train", "devel.jsonl"), ("test", "test.jsonl")):
        lines = (DATA / "slurp" / name).read_text(encoding="utf-8").splitlines()
        sentences[split] = [plain(json.loads(line)["sentence"]) for line in lines]
    both = sum(one in set(sentences["train"]) for one in sentences["test"])
    assert findings.counts["text_in_both"] == both
    assert findings.counts["text_near"] > 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
def test_many_rows_fit_in_little_memory(tmp_path):
    """From the growth between thirty and ninety thousand rows: a million need less than 500 MB."""
    lines = []
    for index in range(90_000):
        words = f"please set lamp {index % 977} to level {index}"
        split = "test" if index % 10 == 0 else "train"
        lines.append(json.dumps({"id": f"row-{index:07d}", "text": words, "intent": f"i{index % 60}", "split": split}))
    code = """
import sys
from pathlib import Path
from lalm.data.validate import validate
validate(Path(sys.argv[1]))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    used = []
    for number in (30_000, 90_000):
        (tmp_path / "m.jsonl").write_text("\n".join(lines[:number]), encoding="utf-8")
        command = [sys.executable, "-c", code, str(tmp_path / "m.jsonl")]
        used.append(1024 * int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    a_row = (used[1] - used[0]) / 60_000
    assert used[1] + 910_000 * a_row < 500e6, f"{used[1] / 1e6:.0f} MB and {a_row:.0f} bytes a row"
    assert a_row > 57, "less than what is kept of a row"


# -- anything at all ----------------------------------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damaged_manifest_is_looked_at(data, tmp_path):
    """Bytes replaced, put in or taken out anywhere: problems are told or there are none, never a fault."""
    row = {
        "id": "a",
        "text": "on",
        "audio": "a.wav",
        "intent": "i",
        "slots": [{"type": "t", "value": "on"}],
        "duration_s": 1.5,
    }
    raw = bytearray("\n".join(json.dumps({**row, "id": name}) for name in "abc").encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3) | st.sampled_from(SNIPPETS))
    (tmp_path / "m.jsonl").write_bytes(bytes(raw))
    try:
        findings = validate(tmp_path / "m.jsonl")
    except UserError:
        return
    json.dumps(findings.to_json(), allow_nan=False).encode()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damaged_recording_is_looked_at(data, tmp_path):
    """Headers with bytes replaced, files cut anywhere."""
    kind = data.draw(st.sampled_from(["WAV", "FLAC", "OGG", "MP3", "RF64"]))
    raw = bytearray(sound_of(kind))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, 63))] = data.draw(st.integers(0, 255))
    del raw[data.draw(st.integers(1, len(raw))) :]
    (tmp_path / "a.bin").write_bytes(bytes(raw))
    (tmp_path / "m.jsonl").write_text(json.dumps({"id": "a", "audio": "a.bin", "intent": "on"}))
    findings = validate(tmp_path / "m.jsonl", decode=True)
    json.dumps(findings.to_json(), allow_nan=False)
