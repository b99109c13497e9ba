"""Recordings chosen by a selector in a recipe: nested whatever the unit, seeded, the recordings themselves unchanged."""

from __future__ import annotations

import json
from random import Random

import numpy as np
import pytest
import soundfile

from lalm import plugins
from lalm.config import DataSection, load_recipe, parse_recipe, to_yaml
from lalm.data.pools import load_pools
from lalm.errors import ConfigError, DataError

SELECTORS = ("random", "stratified", "coverage", "got_d")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Sixteen sentences, and forty recordings without words of 0.2 to 0.6 s."""
    folder = tmp_path_factory.mktemp("corpus")
    rng, rows = Random(0), []
    for drink in ("latte", "mocha", "tea", "water"):
        for size in ("small", "large"):
            label = {"intent": "order", "slots": [{"type": "drink", "value": drink}, {"type": "size", "value": size}]}
            for start in ("get me", "I want"):
                rows.append({"id": f"t{len(rows)}", "text": f"{start} a {size} {drink}", **label})
    for number in range(40):
        seconds = 0.2 + 0.01 * number
        soundfile.write(folder / f"r{number}.wav", np.full(int(16_000 * seconds), 0.1), 16_000)
        label = {k: v for k, v in rng.choice(rows[:16]).items() if k in ("intent", "slots")}
        rows.append({"id": f"r{number}", "audio": f"r{number}.wav", "duration_s": seconds, **label})
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder / "m.jsonl"


@pytest.fixture
def speech(manifest):
    """The ids of the recordings that a budget gives."""

    def drawn(selector, seed=0, **budget):
        values = {"corpus": "jsonl", "root": manifest, "selector": selector, "budget_seed": seed, **budget}
        return [row.id for row in load_pools(DataSection.model_validate(values)).speech]

    return drawn


@pytest.mark.parametrize("selector", SELECTORS)
def test_budgets_are_nested_whatever_their_unit(selector, speech):
    whole = speech(selector, speech_share=1.0)
    assert sorted(whole) == sorted(f"r{i}" for i in range(40))
    assert speech(selector, speech_share=0.1) == whole[:4]
    assert speech(selector, speech_items=9) == whole[:9]
    minutes = speech(selector, speech_minutes=0.05)
    seconds = [0.2 + 0.01 * int(name[1:]) for name in whole]
    assert minutes == whole[: len(minutes)]
    assert sum(seconds[: len(minutes)]) <= 3 < sum(seconds[: len(minutes) + 1])
    assert speech(selector, speech_share=0.0) == []


def test_the_budgets_seed_reaches_the_selector_and_a_seed_of_its_own_wins(speech):
    for selector in ("random", "stratified", "coverage"):
        assert speech(selector, 0, speech_items=12) != speech(selector, 1, speech_items=12), selector
    fixed = {"name": "random", "seed": 5}
    assert (
        speech(fixed, 0, speech_items=12) == speech(fixed, 1, speech_items=12) == speech("random", 5, speech_items=12)
    )


def test_without_a_selector_the_draw_is_the_balanced_one(speech):
    assert speech(None, 3, speech_items=12) == speech({"name": "stratified"}, 3, speech_items=12)


def test_mistakes_are_answered(speech, manifest):
    with pytest.raises(ConfigError, match=r"'coverge'.*Did you mean 'coverage'"):
        speech("coverge", speech_items=2)
    with pytest.raises(ConfigError, match=r"data\.selector\.seeds: there is no such key. Did you mean 'seed'"):
        speech({"name": "random", "seeds": 1}, speech_items=2)
    with pytest.raises(DataError, match="41 recordings are asked for and the pool has 40"):
        speech("random", speech_items=41)


def test_a_recipe_resolves_its_selector_and_finds_files_beside_itself(tmp_path):
    (tmp_path / "in").mkdir()
    recipe_file = tmp_path / "in" / "recipe.yaml"
    recipe_file.write_text("data: {corpus: barista, selector: {name: uncertainty, scores: p.jsonl}}\n")
    recipe = load_recipe(recipe_file)
    assert recipe.data.selector.options["scores"] == str(tmp_path / "in" / "p.jsonl")
    assert recipe.data.selector.options["column"] == "confidence"
    recipe_file.write_text(to_yaml(recipe))
    assert load_recipe(recipe_file) == recipe
    plain = parse_recipe({"data": {"corpus": "barista", "selector": "random"}}, tmp_path)
    assert plain.data.selector.model_dump() == {"name": "random", "seed": None}
    with pytest.raises(ConfigError, match=r"data\.selector: .*'randum'.*Did you mean 'random'"):
        parse_recipe({"data": {"corpus": "barista", "selector": "randum"}}, tmp_path)


@pytest.fixture
def own_selectors(tmp_path, monkeypatch):
    """Selectors of a user's own, one a body of `choose`."""
    monkeypatch.setattr(plugins, "_user_roots", [])

    def write(**bodies):
        folder = tmp_path / "mine" / "select"
        folder.mkdir(parents=True)
        for name, body in bodies.items():
            (folder / f"{name}.py").write_text(
                '"""Mine."""\nfrom lalm.plugins import PluginConfig\n\n\nclass Config(PluginConfig):\n    pass\n\n\n'
                f"def choose(candidates, budget, cfg):\n    return {body}\n"
            )
        plugins.add_roots([tmp_path / "mine"])

    return write


def test_a_selector_of_ones_own_needs_the_three_arguments_alone_and_its_answer_is_checked(own_selectors, speech):
    own_selectors(
        last="[row.id for row in candidates][::-1][:budget]",
        few="[candidates[0].id]",
        twice="[candidates[0].id] * budget",
        other="['nobody'] * budget",
    )
    assert speech("last", speech_items=2) == ["r39", "r38"]
    for name, said in (("few", "gave 1 ids"), ("twice", "1 of them different"), ("other", "0 of them different")):
        with pytest.raises(
            ConfigError, match=rf"The select plug-in {name} was asked for 3 of 40 candidates and .*{said}"
        ):
            speech(name, speech_items=3)


def test_selectors_read_words_that_the_recordings_do_not_keep(own_selectors, manifest, speech):
    own_selectors(by_text="[row.id for row in sorted(candidates, key=lambda row: (row.text, row.id))][:budget]")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    said = {row["id"]: [slot["value"] for slot in row["slots"]][::-1] for row in rows if row.get("audio")}
    expected = sorted(said, key=lambda name: (f"I want a {' '.join(said[name])}", name))
    assert speech("by_text", speech_items=40) == expected
    data = DataSection.model_validate({"corpus": "jsonl", "root": manifest, "selector": "by_text"})
    assert all(row.text is None and row.audio is not None for row in load_pools(data).speech)
