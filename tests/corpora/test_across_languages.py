"""English to learn from, French to be tested on: no sentence on both sides, shots that cover, splits that are seeded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lalm import plugins
from lalm.config import DataSection, parse_recipe
from lalm.data.pools import load_pools
from lalm.errors import ConfigError, DataError
from lalm.rundir import write_jsonl
from lalm.study.plan import load_study, runs
from lalm.train.provenance import corpus_licence

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
STUDY = Path(__file__).parents[2] / "studies" / "transfer" / "english_to_french.yaml"
RECIPE = Path(__file__).parents[2] / "recipes" / "transfer" / "sentences.yaml"


def slurp_rows(language: str, ids: range) -> list[dict]:
    """Lines in SLURP's layout, of six intents; sentences of two languages with the same id are translations."""
    return [
        {
            "slurp_id": number,
            "sentence": f"{language} {number} now",
            "intent": "set" if number % 2 else f"alarm_s{number % 6}",
            "scenario": "alarm",
            "action": f"s{number % 6}",
            "tokens": [{"surface": word} for word in (language, str(number), "now")],
            "entities": [{"type": f"t{number % 3}", "span": [1]}],
            "recordings": [],
        }
        for number in ids
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """English ids 0 to 59, French ids 100 to 179."""
    write_jsonl(tmp_path / "slurp" / "devel.jsonl", slurp_rows("en", range(60)))
    write_jsonl(tmp_path / "fr" / "test.jsonl", slurp_rows("fr", range(100, 180)))
    return tmp_path


def parts(**french) -> dict:
    english = {"name": "slurp", "train": "devel.jsonl", "dev": None, "scenario_action": True}
    options = {"train": "test.jsonl", "dev": None, "test_size": 30, "scenario_action": True}
    return {
        "en": {"corpus": english, "root": "slurp", "splits": ["train"]},
        "fr": {"corpus": {"name": "slurp", "language": "fr-FR", **options, **french}, "root": "fr"},
    }


def section(root: Path, joined: dict, **more) -> DataSection:
    return DataSection.model_validate({"corpus": {"name": "joined", "parts": joined}, "root": root, **more})


def sentence_ids(rows) -> set[str]:
    return {str(row.meta["slurp_id"]) for row in rows}


def test_the_two_sides_share_no_sentence_and_the_split_is_seeded(root):
    found = load_pools(section(root, parts(), num_text=None))
    assert {(row.language, row.id.partition("-")[0]) for row in found.text} == {("en", "en"), ("fr", "fr")}
    assert {row.language for row in found.test} == {"fr"}
    assert (len(found.text), len(found.test)) == (60 + 50, 30)
    assert not sentence_ids(found.text) & sentence_ids(found.test)
    assert sentence_ids(load_pools(section(root, parts())).test) == sentence_ids(found.test)
    assert sentence_ids(load_pools(section(root, parts(split_seed=1))).test) != sentence_ids(found.test)
    intents = {row.frame.intent for row in found.text}
    assert intents == {f"alarm_s{i}" for i in range(6)}, "scenario_action, whatever the field `intent` says"


def test_translations_on_both_sides_are_refused(root):
    write_jsonl(root / "slurp" / "devel.jsonl", slurp_rows("en", range(90, 110)))
    with pytest.raises(DataError, match=r"training rows? of sentences that are tested.*test_size") as error:
        load_pools(section(root, parts()))
    assert all(problem.startswith("slurp_id 1") and "fr-1" in problem for problem in error.value.problems)
    assert load_pools(section(root, parts(), corpus={"name": "joined", "parts": parts(), "apart": None})).test


def test_shots_cover_the_labels_and_are_within_the_large_text(root):
    shots, large = (
        load_pools(
            section(
                root, parts(), languages={"fr": {"num_text": number}, "en": {"num_text": 0}}, selector="label_cover"
            )
        ).text
        for number in (6, 40)
    )
    assert {row.frame.intent for row in shots} == {f"alarm_s{i}" for i in range(6)}
    assert {slot.type for row in shots for slot in row.frame.slots} == {"t0", "t1", "t2"}
    assert sentence_ids(shots) < sentence_ids(large)


def test_mistakes_name_the_part(root):
    with pytest.raises(DataError, match=r"data\.corpus\.parts\.fr\.root: .* does not exist"):
        load_pools(section(root, {**parts(), "fr": {**parts()["fr"], "root": "french"}}))
    with pytest.raises(
        ConfigError, match=r"data\.corpus\.parts\.fr\.corpus\.test_sze: there is no such key\. Did you mean 'test_size'"
    ):
        load_pools(section(root, parts(test_sze=3)))
    with pytest.raises(DataError, match=r"test_size: 80 of 80 sentences leave none"):
        load_pools(section(root, parts(test_size=80)))
    with pytest.raises(ConfigError, match="one file is split between training and test by test_size"):
        plugins.configure(
            plugins.load("corpora", "slurp"), {"train": "devel.jsonl", "test": "devel.jsonl"}, "data.corpus"
        )


def test_a_recipe_of_it_is_resolved_and_read_back_and_states_the_licences(root):
    values = {
        "data": {"corpus": {"name": "joined", "parts": parts()}, "root": str(root)},
        "backbone": {"name": "smol", "tiny": True},
    }
    recipe = parse_recipe(values, root)
    again = parse_recipe(yaml.safe_load(yaml.safe_dump(recipe.model_dump(mode="json"))), root)
    assert again == recipe
    assert "CC-BY-NC" in corpus_licence(recipe)


@pytest.mark.skipif(
    not (DATA / "massive_fr").is_dir(), reason="the French and English sentences are not on this machine"
)
def test_the_real_files_share_no_sentence_and_the_shots_cover_french():
    """Devel of SLURP and MASSIVE's French test set, whose ids are those of SLURP's test set."""
    values = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))["data"]
    values = {**values, "root": RECIPE.parent / values["root"], "languages": {"en": {}, "fr": {}}}
    found = load_pools(DataSection.model_validate(values))
    french = [row for row in found.text if row.language == "fr"]
    english = [row for row in found.text if row.language == "en"]
    assert (len(french), len(english), len(found.test)) == (800, 800, 300)
    assert {row.language for row in found.test} == {"fr"}
    sides = [sentence_ids(rows) for rows in (french, english, found.test)]
    assert not sides[0] & sides[2]
    assert not sides[1] & (sides[0] | sides[2])
    with (DATA / "slurp" / "test.jsonl").open(encoding="utf-8") as stream:
        tested = {str(json.loads(line)["slurp_id"]) for line in stream}
    assert sides[0] | sides[2] <= tested
    assert not sides[1] & tested
    shots = load_pools(DataSection.model_validate({**values, "languages": {"fr": {"num_text": 115}}})).text
    assert sentence_ids(shots) < sides[0]
    whole = load_pools(DataSection.model_validate({**values, "languages": {"fr": {}}})).text
    assert {row.frame.intent for row in shots} == {row.frame.intent for row in whole}
    assert {s.type for row in shots for s in row.frame.slots} == {s.type for row in whole for s in row.frame.slots}


def test_the_transfer_study_asks_for_the_rows_of_the_papers_table():
    """Of one seed; and no variant hears or reads French that its name does not say."""
    study, base = load_study(STUDY, ["seeds=[0]"])
    asked = {run.name.removesuffix("-s0"): run.recipe.data.languages for run in runs(study, base)}
    assert sorted(asked) == sorted(
        [
            *("zero-text_only-0", "zero-curriculum-10", "zero-curriculum-100", "T-text_only-0", "T+S-curriculum-0"),
            *(
                "source+T-text_only-0",
                "source+T-curriculum-100",
                "source+T+S-curriculum-0",
                "source+T+S-curriculum-100",
            ),
            *("source+T+M-curriculum-100", "source+T+S+M-curriculum-100"),
        ]
    )
    for name, languages in asked.items():
        assert languages is not None
        variant = name.rpartition("-")[0].rpartition("-")[0]
        french = languages.get("fr")
        assert ("en" in languages) == ("source" in variant or variant == "zero")
        assert (french is None) == (variant == "zero")
        if french is not None:
            assert french.num_text == (800 if "M" in variant else 115)
            assert french.speech_items == (115 if "S" in variant else 0)


@pytest.mark.parametrize("span", [[-1], [], [2, 9]])
def test_a_span_that_is_none_of_the_words_is_no_slot(span, tmp_path):
    row = {
        "slurp_id": 1, "sentence": "wake me up", "intent": "i", "scenario": "s", "action": "a", "recordings": [],
        "tokens": [{"surface": word} for word in ("wake", "me", "up")], "entities": [{"type": "time", "span": span}],
    }  # fmt: skip
    slurp = plugins.load("corpora", "slurp")
    with pytest.raises(DataError, match=r"the span .* of 'time' is none of the 3 tokens"):
        slurp.rows_of(tmp_path, row, "train", slurp.Config())


def test_recordings_of_digits_with_other_names_are_not_passed_over(tmp_path):
    fsdd = plugins.load("corpora", "fsdd")
    fsdd.make_tiny(tmp_path, 0)
    clip = next(tmp_path.rglob("*.wav"))
    (clip.parent / "3_Jackson2_1.wav").write_bytes(clip.read_bytes())
    assert "3_Jackson2_1" in {row.id for row in fsdd.read(tmp_path, "train", fsdd.Config())}
    (clip.parent / "three.wav").write_bytes(clip.read_bytes())
    with pytest.raises(DataError, match=r"1 recording not named like 7_jackson_32\.wav(.|\n)*three\.wav"):
        list(fsdd.read(tmp_path, "train", fsdd.Config()))
