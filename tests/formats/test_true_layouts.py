"""Files as other tools write them, by hand: what is read of them."""

from __future__ import annotations

import base64
import json
import zipfile

import numpy as np
import pytest
import soundfile

from lalm.data import audio
from lalm.data.ontology import read_ontology
from lalm.formats.rasa import parse_example
from lalm.records import UNKNOWN_FIELDS, Frame, Slot


def wav(path, num_samples=1600, rate=16_000, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(num_samples), rate)
    return path


# -- conversations -----------------------------------------------------------------------------------------------------------


def test_ms_swift_llama_factory_and_sharegpt_rows(tmp_path, run, rows_of, lines):
    wav(tmp_path / "clips" / "a.wav")
    answer = '{"intent": "heat", "slots": [{"room": "bath"}, {"degrees": "21"}]}'
    asked = "Extract the intent and the slots."
    file = lines(
        tmp_path / "train.jsonl",
        {  # ms-swift and LLaMA-Factory
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": f"<audio>{asked}"},
                {"role": "assistant", "content": answer},
            ],
            "audios": ["clips/a.wav"],
        },
        {  # ms-swift's other way to write it
            "query": "warm up the bath",
            "response": '{"scenario": "home", "action": "heat", "entities": [{"type": "room", "filler": "bath"}]}',
        },
        {  # ShareGPT
            "conversations": [
                {"from": "human", "value": "<audio>What is said?"},
                {"from": "gpt", "value": "Someone asks for warmth."},
            ],
            "audios": "clips/a.wav",
        },
        {
            "messages": [
                {"role": "user", "content": "<audio>Is it cold?"},
                {"role": "assistant", "content": "Yes."},
                {"role": "user", "content": "Heat, please."},
                {"role": "assistant", "content": "Done."},
            ],
            "audios": ["clips/a.wav"],
        },
    )
    run("import", "messages_jsonl", file, "--out", tmp_path / "in")
    one, two, three, four = rows_of(tmp_path / "in").values()
    assert one.frame == Frame("heat", (Slot("room", "bath"), Slot("degrees", "21")))
    assert (one.text, one.duration_s, one.split, one.source) == (None, 0.1, "train", "recorded")
    assert (two.text, two.frame) == ("warm up the bath", Frame("home_heat", (Slot("room", "bath"),)))
    assert (three.question, three.answers) == ("What is said?", ("Someone asks for warmth.",))
    assert [turn["content"] for turn in four.meta[UNKNOWN_FIELDS]["messages"]] == [
        "<audio>Is it cold?",
        "Yes.",
        "Heat, please.",
        "Done.",
    ]
    # and back, as they were
    run(
        "export",
        "messages_jsonl",
        tmp_path / "in",
        "columns=false",
        "--allow-outside-paths",
        "--out",
        tmp_path / "b.jsonl",
    )
    back = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text(encoding="utf-8").splitlines()]
    assert back[2]["messages"][0] == {"role": "user", "content": "<audio>What is said?"}
    assert [one["content"] for one in back[3]["messages"]] == ["<audio>Is it cold?", "Yes.", "Heat, please.", "Done."]


def test_openai_rows_of_every_kind(tmp_path, run, rows_of, lines):
    path = wav(tmp_path / "clips" / "a.wav")
    inside = base64.b64encode(path.read_bytes()).decode()
    parts = [
        {"type": "input_audio", "input_audio": {"data": inside, "format": "wav"}},  # OpenAI
        {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{inside}"}},  # vLLM
        {"type": "audio_url", "audio_url": {"url": f"file://{path}"}},
        {"type": "audio", "audio": "clips/a.wav"},  # transformers
        {"type": "audio", "audio_url": "clips/a.wav"},  # Qwen2-Audio
        {"type": "audio", "path": "clips/a.wav"},
    ]
    rows = [
        {
            "messages": [
                {"role": "user", "content": [part, {"type": "text", "text": "What is meant?"}]},
                {"role": "assistant", "content": [{"type": "text", "text": '{"intent": "heat", "slots": []}'}]},
            ]
        }
        for part in parts
    ]
    rows.append({"custom_id": "mine", "method": "POST", "url": "/v1/chat/completions", "body": rows[0]})
    file = lines(tmp_path / "chat.jsonl", *rows)
    run("import", "openai", file, "allow_outside_paths=true", "--out", tmp_path / "in")
    found = rows_of(tmp_path / "in")
    assert list(found)[-1] == "mine"
    assert len(found) == len(rows)
    for row in found.values():
        assert row.frame == Frame("heat")
        np.testing.assert_array_equal(audio.load(row.audio), audio.load(path))


# -- NeMo --------------------------------------------------------------------------------------------------------------------


def test_nemo_rows_pieces_and_semantics(tmp_path, run, rows_of, lines):
    path = wav(tmp_path / "long.wav", num_samples=32_000)
    semantics = "{'scenario': 'alarm', 'action': 'set', 'entities': [{'type': 'time', 'filler': \"seven o'clock\"}]}"
    lines(
        tmp_path / "data" / "train_manifest.json",
        {"audio_filepath": "../long.wav", "duration": 2.0, "text": "the whole", "lang": "de", "snr": 12.5},
        {"audio_filepath": "../long.wav", "offset": 0.5, "duration": 0.25, "text": "a piece", "speaker": "anna"},
        {"audio_filepath": "../long.wav", "duration": 2.0, "text": semantics, "transcript": "wake me"},
        {"audio_filepath": "../long.wav", "offset": 0, "duration": 0.25, "text": "the beginning"},
        {"audio_filepath": "../long.wav", "offset": 0.0, "duration": 1.995, "text": "all of it"},
    )
    lines(
        tmp_path / "data" / "validation_manifest.json", {"audio_filepath": "../long.wav", "duration": 2.0, "text": "b"}
    )
    run("import", "nemo", tmp_path / "data", "allow_outside_paths=true", "--out", tmp_path / "in")
    found = rows_of(tmp_path / "in")
    one, two, three, beginning, whole, four = found.values()
    assert (one.text, one.language, one.duration_s, one.split) == ("the whole", "de", 2.0, "train")
    assert one.meta[UNKNOWN_FIELDS] == {"snr": 12.5}
    assert (two.text, two.speaker, two.duration_s) == ("a piece", "anna", 0.25)
    np.testing.assert_allclose(audio.load(two.audio), audio.load(path)[8000:12_000], atol=1e-4)
    assert two.audio.parent == tmp_path / "in" / "audio"
    assert (three.text, three.frame) == ("wake me", Frame("alarm_set", (Slot("time", "seven o'clock"),)))
    assert beginning.duration_s == 0.25
    np.testing.assert_allclose(audio.load(beginning.audio), audio.load(path)[:4000], atol=1e-4)
    assert whole.audio.samefile(path)
    assert four.split == "dev"


def test_nemo_tar_files_and_pieces_behind_the_end_are_named(tmp_path, refused, lines):
    wav(tmp_path / "a.wav")
    file = lines(
        tmp_path / "m.json",
        {"audio_filepath": "a.wav", "duration": 0.1, "text": "a", "shard_id": 3},
        {"audio_filepath": "a.wav", "offset": 7, "duration": 0.1, "text": "a"},
        {"audio_filepath": "a.wav", "duration": "long", "text": "a"},
        {"audio_filepath": ["a.wav", "b.wav"], "duration": 1, "text": "a"},
    )
    said = refused("import", "nemo", file, "--out", tmp_path / "in")
    assert "4 problems" in said
    assert "line 1: field 'shard_id'" in said
    assert "line 2: field 'offset' is 7, which lies behind the end" in said
    assert "line 3: field 'duration' is \"long\"" in said
    assert "line 4: field 'audio_filepath' is ['a.wav', 'b.wav']" in said
    assert not (tmp_path / "in").exists()


# -- Rasa --------------------------------------------------------------------------------------------------------------------

NLU = """\
version: "3.1"

nlu:
- intent: book_flight
  examples: |
    - fly to [Berlin](city) on [monday](date)
    - a ticket from [LA]{"entity": "city", "role": "from", "value": "Los Angeles"} to [Rome]{"entity": "city", "role": "to"}
    - [twice](count:2) a week

- intent: chitchat/ask_name
  examples:
  - text: |
      - what is your name
    metadata:
      sentiment: neutral
- intent: affirm
  examples: |
    - yes
    - on
- synonym: Los Angeles
  examples: |
    - LA
    - city of angels
- lookup: city
  examples: |
    - Paris
    - Oslo
- regex: date
  examples: |
    - \\d{1,2}\\.
"""
DOMAIN = """\
version: "3.1"
intents:
- book_flight
- goodbye:
    use_entities: []
entities:
- city:
    roles: [from, to]
- seat_class
slots:
  city:
    type: text
    mappings:
    - type: from_entity
      entity: city
"""


def test_rasa_project(tmp_path, run, rows_of):
    (tmp_path / "bot" / "data").mkdir(parents=True)
    (tmp_path / "bot" / "data" / "nlu.yml").write_text(NLU, encoding="utf-8")
    (tmp_path / "bot" / "domain.yml").write_text(DOMAIN, encoding="utf-8")
    (tmp_path / "bot" / "data" / "rules.yml").write_text('version: "3.1"\nrules:\n- rule: hi\n', encoding="utf-8")
    (tmp_path / "bot" / "data" / "test_nlu.yml").write_text(
        "nlu:\n- intent: affirm\n  examples: |\n    - indeed\n", encoding="utf-8"
    )
    run("import", "rasa", tmp_path / "bot", "language=en", "--out", tmp_path / "in")
    found = list(rows_of(tmp_path / "in").values())
    assert [(r.text, r.frame.intent) for r in found] == [
        ("fly to Berlin on monday", "book_flight"),
        ("a ticket from LA to Rome", "book_flight"),
        ("twice a week", "book_flight"),
        ("what is your name", "chitchat/ask_name"),
        ("yes", "affirm"),
        ("on", "affirm"),
        ("indeed", "affirm"),
    ]
    assert found[0].frame.slots == (Slot("city", "Berlin"), Slot("date", "monday"))
    assert found[1].frame.slots == (Slot("city", "LA"), Slot("city", "Rome"))
    assert [one.get("role") for one in found[1].meta["entities"]] == ["from", "to"]
    assert [row.split for row in found] == ["train"] * 6 + ["test"]
    ontology = read_ontology(tmp_path / "in" / "ontology.json")
    assert list(ontology.intents) == ["book_flight", "chitchat/ask_name", "affirm", "goodbye"]
    assert set(ontology.slots) == {"city", "date", "count", "seat_class"}
    assert set(ontology.slots["city"].values) == {"Berlin", "Los Angeles", "Rome", "Paris", "Oslo"}
    assert ontology.slots["city"].synonyms == {"LA": "Los Angeles", "city of angels": "Los Angeles"}
    assert ontology.slots["count"].synonyms == {"twice": "2"}
    run("export", "rasa", tmp_path / "in", "--out", tmp_path / "again.yml")
    text = (tmp_path / "again.yml").read_text(encoding="utf-8")
    assert 'a ticket from [LA]{"entity": "city", "value": "Los Angeles", "role": "from"} to [Rome]' in text


@pytest.mark.parametrize(
    ("example", "text", "entities"),
    [  # as Rasa's own parser splits them
        ("plain words", "plain words", []),
        ("[a b](x) and [c](y:d)", "a b and c", [("x", "a b", "a b"), ("y", "c", "d")]),
        ('[e]{"entity": "z"}', "e", [("z", "e", "e")]),
        ('[f][{"entity": "x"}, {"entity": "y", "value": "g"}]', "f", [("x", "f", "f"), ("y", "f", "g")]),
        ("an [aside] is not marked", "an [aside] is not marked", []),
    ],
)
def test_rasas_ways_to_mark_an_entity(example, text, entities):
    plain, found = parse_example(example)
    assert plain == text
    assert [(one["type"], one["said"], one["value"]) for one in found] == entities


# -- Dialogflow --------------------------------------------------------------------------------------------------------------


def es_export(folder):
    files = {
        "package.json": {"version": "1.0.0"},
        "agent.json": {"language": "en"},
        "intents/order.json": {
            "name": "order",
            "responses": [{"parameters": [{"name": "drink", "dataType": "@beverage"}]}],
        },
        "intents/order_usersays_en.json": [
            {
                "id": "1",
                "data": [
                    {"text": "a ", "userDefined": False},
                    {"text": "large", "meta": "@size", "alias": "size", "userDefined": True},
                    {"text": " ", "userDefined": False},
                    {"text": "flat white", "meta": "@beverage", "alias": "drink", "userDefined": True},
                    {"text": " at "},
                    {"text": "nine", "meta": "@sys.time", "alias": "time", "userDefined": True},
                ],
                "isTemplate": False,
                "count": 0,
                "updated": 0,
            }
        ],
        "intents/order_usersays_de.json": [{"data": [{"text": "einen Kaffee"}], "isTemplate": False}],
        "entities/size.json": {"name": "size", "isEnum": False, "automatedExpansion": False},
        "entities/size_entries_en.json": [
            {"value": "small", "synonyms": ["small", "little"]},
            {"value": "large", "synonyms": []},
        ],
        "entities/beverage.json": {"name": "beverage", "automatedExpansion": True},
        "entities/beverage_entries_en.json": [{"value": "latte", "synonyms": ["latte"]}],
    }
    for name, value in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value), encoding="utf-8")


def cx_export(folder):
    files = {
        "agent.json": {"displayName": "shop", "defaultLanguageCode": "en"},
        "intents/order/order.json": {"displayName": "order", "parameters": [{"id": "size", "entityType": "@size"}]},
        "intents/order/trainingPhrases/en.json": {
            "trainingPhrases": [
                {
                    "id": "1",
                    "parts": [{"text": "a "}, {"text": "large", "parameterId": "size"}, {"text": " one"}],
                    "repeatCount": 1,
                }
            ]
        },
        "entityTypes/size/size.json": {"displayName": "size", "kind": "KIND_MAP"},
        "entityTypes/size/entities/en.json": {
            "entities": [{"value": "large", "synonyms": ["big"], "languageCode": "en"}]
        },
    }
    for name, value in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value), encoding="utf-8")


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*.json"):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])
def test_dialogflow_es(as_zip, tmp_path, run, rows_of):
    es_export(tmp_path / "agent")
    source = zipped(tmp_path / "agent", tmp_path / "agent.zip") if as_zip else tmp_path / "agent"
    run("import", "dialogflow", source, "--out", tmp_path / "in")
    found = {row.language: row for row in rows_of(tmp_path / "in").values()}
    assert found["de"].text == "einen Kaffee"
    english = found["en"]
    assert english.text == "a large flat white at nine"
    assert english.frame == Frame("order", (Slot("size", "large"), Slot("drink", "flat white"), Slot("time", "nine")))
    assert english.meta["entity_types"]["drink"] == "beverage"
    ontology = read_ontology(tmp_path / "in" / "ontology.json")
    assert list(ontology.intents) == ["order"]
    assert set(ontology.slots) == {"size", "drink", "time"}  # as the slots are called
    assert ontology.slots["size"].closed
    assert ontology.slots["size"].allows("LITTLE")
    assert not ontology.slots["size"].allows("huge")
    assert not ontology.slots["drink"].closed
    run("import", "dialogflow", source, "language=de", "--out", tmp_path / "german")
    assert [row.text for row in rows_of(tmp_path / "german").values()] == ["einen Kaffee"]


@pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])
def test_dialogflow_cx(as_zip, tmp_path, run, rows_of):
    cx_export(tmp_path / "agent")
    source = zipped(tmp_path / "agent", tmp_path / "agent.zip") if as_zip else tmp_path / "agent"
    run("import", "dialogflow", source, "--out", tmp_path / "in")
    (row,) = rows_of(tmp_path / "in").values()
    assert (row.text, row.frame) == ("a large one", Frame("order", (Slot("size", "large"),)))
    ontology = read_ontology(tmp_path / "in" / "ontology.json")
    assert ontology.slots["size"].closed
    assert ontology.slots["size"].synonyms == {"big": "large"}


# -- SLURP -------------------------------------------------------------------------------------------------------------------


def test_a_slurp_folder_has_three_splits(tmp_path, run, rows_of):
    from lalm import plugins

    (tmp_path / "slurp").mkdir()
    plugins.load("corpora", "slurp").make_tiny(tmp_path / "slurp", 0)
    run("import", "slurp", tmp_path / "slurp", f"audio={tmp_path / 'slurp' / 'audio'}", "--out", tmp_path / "in")
    found = list(rows_of(tmp_path / "in").values())
    assert {row.split for row in found} == {"train", "dev", "test"}
    assert sum(row.audio is not None for row in found) == 12
