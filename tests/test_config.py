"""Recipes: read, overridden, resolved, saved; every mistake named with its place and the nearest right one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from lalm import config, plugins
from lalm.config import load_recipe, override, parse_recipe, read_yaml, to_yaml
from lalm.errors import ConfigError

MINIMAL = {"data": {"corpus": "barista"}}


def problems(values: dict, base: Path = Path("/base")) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(values, base)
    return str(caught.value)


def test_defaults_are_written_out_and_read_back_equal(tmp_path: Path):
    recipe = parse_recipe(MINIMAL, tmp_path)
    text = to_yaml(recipe)
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    again = load_recipe(tmp_path / "recipe.yaml")
    assert again == recipe
    assert to_yaml(again) == text
    written = yaml.safe_load(text)
    assert written["tuner"]["r"] == 16, "options of plug-ins too"
    assert written["backbone"]["connector"]["name"], "and of plug-ins among the options of plug-ins"
    assert set(written["backbone"]["connector"]) > {"name"}
    assert config.config_hash(written) == config.config_hash(yaml.safe_load(to_yaml(again)))


def test_paths_are_taken_from_the_recipe(tmp_path: Path):
    recipe = parse_recipe(
        {"data": {"corpus": "jsonl", "root": "../mine", "synthetic": "s.jsonl"}}, tmp_path / "recipes"
    )
    assert recipe.data.root == tmp_path / "mine"
    assert recipe.data.synthetic == tmp_path / "recipes" / "s.jsonl"


def test_the_three_ways_to_choose_a_plug_in(tmp_path: Path):
    short = parse_recipe({**MINIMAL, "tuner": "full", "scheme": {"speech_passes": 1}}, tmp_path)
    assert short.tuner.name == "full"
    assert (short.scheme.name, short.scheme.options["speech_passes"]) == ("curriculum", 1.0)
    long = parse_recipe({**MINIMAL, "tuner": {"name": "lora", "r": 8}}, tmp_path)
    assert (long.tuner.name, long.tuner.options["r"]) == ("lora", 8)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"dta": {}}, ["dta: there is no such key. Did you mean 'data'?", "data: this key is required and missing"]),
        ({"data": {"corpus": "barista", "speach_share": 0.1}}, ["data.speach_share: ", "Did you mean 'speech_share'?"]),
        ({**MINIMAL, "train": {"learning_rat": 1}}, ["train.learning_rat: ", "Did you mean 'learning_rate'?"]),
        ({**MINIMAL, "train": {"learning_rate": 0}}, ["train.learning_rate: ", "greater than 0 (got 0)"]),
        ({**MINIMAL, "train": {"learning_rate": float("nan")}}, ["train.learning_rate: ", "finite"]),
        ({**MINIMAL, "train": {"lr_scheduler_type": "cosin"}}, ["train.lr_scheduler_type: ", "cosine|linear|constant"]),
        ({**MINIMAL, "tuner": "lorra"}, ["tuner: Unknown tuners plug-in 'lorra'. Did you mean 'lora'?"]),
        ({**MINIMAL, "tuner": {"name": "lora", "lora_alfa": 1}}, ["tuner.lora_alfa: ", "Did you mean 'lora_alpha'?"]),
        ({**MINIMAL, "tuner": {"r": "many"}}, ["tuner.r: ", "(got 'many')"]),
        ({**MINIMAL, "tuner": 3}, ["tuner: ", "(got 3)"]),
        ({"data": {"corpus": {"name": "barista", "tset_size": 1}}}, ["data.corpus.tset_size: ", "Did you mean 'test_size'?"]),
        ({"data": {"corpus": "baristo"}}, ["data.corpus: Unknown corpora plug-in 'baristo'. Did you mean 'barista'?"]),
        ({**MINIMAL, "backbone": {"connector": {"name": "mlp", "stak": 5}}}, ["backbone.connector.stak: ", "Did you mean 'stack'?"]),
        ({**MINIMAL, "backbone": {"connector": "hybird"}}, ["backbone.connector: ", "Did you mean 'hybrid'?"]),
        ({**MINIMAL, "evaluate": {"metrics": ["wer", "wrr"]}}, ["evaluate.metrics: ", "Did you mean 'wer'?"]),
        ({**MINIMAL, "train": {"metric_for_best_model": "entity_f2"}}, ["train.metric_for_best_model: ", "'entity_f1'"]),
        ({"data": {"corpus": "barista", "speech_share": 0.1, "speech_items": 3}}, ["data: give one speech budget, not speech_share and"]),
        ({"data": {"corpus": "barista", "speech_share": 2}}, ["data.speech_share: ", "less than or equal to 1 (got 2)"]),
        ({"data": 5}, ["data: ", "(got 5)"]),
        ({**MINIMAL, "plugins": ["nowhere"]}, ["plugins: /base/nowhere is not a folder"]),
    ],
)  # fmt: skip
def test_mistakes_are_named(values: dict, expected: list[str]):
    message = problems(values)
    for part in expected:
        assert part in message


def test_all_mistakes_are_listed_at_once(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "data: {corpus: {name: barista, a: 1}}\ntuner: lorra\nscheme: {name: curriculum, b: 2}\nevaluate: {metrics: [c]}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert all(line.startswith(f"{path}: ") for line in lines)
    path.write_text("data: {corpus: barista, x: 1, y: 2}\ntrain: {z: 3, seed: [1]}\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"data: [1, 2\ntrain: x", "line 2, column 6: not valid YAML"),
        (b"", "a mapping of keys is needed, the file is empty"),
        (b"- a\n- b\n", "a mapping of keys is needed, this is a list"),
        (b"\xff\xfe\x00", "is not a UTF-8 text file"),
        (b"train: {seed: 1}\ntrain: {seed: 2}\n", "line 2, column 1: not valid YAML (the key 'train' stands twice)"),
        (b"a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        (b"a: !!int abc\n", "a value is not what its tag says"),
        (b"[" * 5000, "nested too deeply"),
    ],
)
def test_files_that_are_no_recipe(text: bytes, message: str, tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "missing.yaml")


def test_yaml_merges_are_allowed(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("a: &a {x: 1}\nb: &b {y: 2}\nc: {<<: *a, z: 3}\nd: {<<: [*a, *b], x: 5}\n")
    assert read_yaml(path)["c"] == {"x": 1, "z": 3}
    assert read_yaml(path)["d"] == {"x": 5, "y": 2}


def test_truth_is_true_or_false_and_no_is_norwegian(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("languages: {no: {on: true}, y: no}\noff: [False, TRUE, yes]\n")
    assert read_yaml(path) == {"languages": {"no": {"on": True}, "y": "no"}, "off": [False, True, "yes"]}
    assert override({}, ["a.language=no", "b=false", "c=2024-99-99"]) == {
        "a": {"language": "no"},
        "b": False,
        "c": "2024-99-99",
    }
    recipe = parse_recipe({"data": {"corpus": "jsonl", "languages": {"no": {}}}, "train": {"bf16": "no"}}, tmp_path)
    assert list(recipe.data.languages or {}) == ["no"]
    assert recipe.train.bf16 is False, "where a truth value is asked for, `no` is one"
    path.write_text(to_yaml(recipe))
    assert read_yaml(path)["data"]["languages"].keys() == {"no"}


def test_overrides():
    values = {"tuner": "lora", "train": {"seed": 1}, "data": {"corpus": "barista"}}
    changed = override(
        values, ["tuner.r=8", "train.groups=[llm.mlp]", "scheme=text_only", "train.learning_rate=5e-4", "x.y.z="]
    )
    assert changed["tuner"] == {"name": "lora", "r": 8}
    assert changed["train"] == {"seed": 1, "groups": ["llm.mlp"], "learning_rate": "5e-4"}
    assert changed["scheme"] == "text_only"
    assert changed["x"] == {"y": {"z": None}}
    assert values == {"tuner": "lora", "train": {"seed": 1}, "data": {"corpus": "barista"}}, (
        "the values given stay as they are"
    )
    del changed["x"]
    assert parse_recipe(changed, Path("/base")).train.learning_rate == 5e-4
    for bad in ("tuner.r", "=3", "a=[1"):
        with pytest.raises(ConfigError, match=r"override|YAML"):
            override(values, [bad])


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
        max_size=4,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_values_give_a_recipe_or_a_config_error(values: dict):
    with pytest.raises(ConfigError):
        parse_recipe(values, Path("/base"))


SECTIONS = [config.Recipe, config.DataSection, config.TrainSection, config.EvaluateSection]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_sections_are_frozen_strict_and_described(section: type[BaseModel]):
    assert section.model_config["frozen"]
    assert section.model_config["extra"] == "forbid"
    for name, field in section.model_fields.items():
        assert field.description, f"{section.__name__}.{name}"
    recipe = parse_recipe(MINIMAL, Path("/base"))
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train.seed = 3


def test_hyper_parameters_bear_hugging_faces_names():
    """What TrainingArguments has under the same meaning is called the same; the rest is lalm's own."""
    import inspect

    from transformers import TrainingArguments

    theirs = set(inspect.signature(TrainingArguments.__init__).parameters)
    ours = set(config.TrainSection.model_fields)
    # the last but one is BitsAndBytesConfig's
    assert ours - theirs == {"groups", "early_stopping_patience", "load_in_4bit", "max_memory_gb"}
    lora = set(plugins.load("tuners", "lora").Config.model_fields)
    assert {"r", "lora_alpha", "lora_dropout", "use_rslora", "init_lora_weights"} <= lora
