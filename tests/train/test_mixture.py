"""Languages in a mixture: rows seen in proportion to n ** (1 / T), as many in all as the scheme says, tasks apart."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from lalm import plugins
from lalm.config import parse_recipe
from lalm.data.pools import load_pools
from lalm.records import Example, Pools, Stage
from lalm.train.mixture import by_temperature, part, with_parts
from lalm.train.order import epoch_rows
from lalm.train.setup import make_examples, plan

SIZES = {"en": 800, "fr": 115, "de": 20}


def pool(name: str, sizes: dict[str, int]) -> list[Example]:
    return [
        Example(f"{name}-{language}-{i}", "", "", language=language) for language, n in sizes.items() for i in range(n)
    ]


@pytest.fixture(scope="module")
def examples() -> dict[str, list[Example]]:
    few = {"en": 90, "fr": 10}
    return with_parts(
        {"text": pool("t", SIZES), "speech": pool("s", few), "synthetic": [], "speech:transcribe": pool("x", few)}
    )


def seen(stage: Stage, examples: dict[str, list[Example]]) -> dict[str, Counter]:
    """Rows of each pool, by language, over all epochs of a stage, as the loop would read them."""
    sizes = {name: len(rows) for name, rows in examples.items()}
    result: dict[str, Counter] = {}
    for epoch in range(stage.epochs):
        for name, index in epoch_rows(stage, sizes, epoch, seed=0):
            row = examples[name][index]
            result.setdefault(name.replace(f"@{row.language}", ""), Counter())[row.language] += 1
    return result


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0, 1000.0])
def test_rows_seen_are_in_proportion_to_the_root_of_the_sizes(examples, temperature):
    stage = Stage("mixed", {"text": 1.0, "speech": 3.0, "synthetic": 0.0, "speech:transcribe": 0.5}, epochs=4)
    found = seen(by_temperature([stage], examples, temperature)[0], examples)
    for name, times, sizes in (
        ("text", 1.0, SIZES),
        ("speech", 3.0, {"en": 90, "fr": 10}),
        ("speech:transcribe", 0.5, {"en": 90, "fr": 10}),
    ):
        total = 4 * times * sum(sizes.values())
        roots = {language: size ** (1 / temperature) for language, size in sizes.items()}
        for language, root in roots.items():
            assert found[name][language] == pytest.approx(total * root / sum(roots.values()), abs=1)
        assert sum(found[name].values()) == pytest.approx(total, abs=2)


def test_a_temperature_of_one_keeps_the_schemes_passes_and_a_high_one_makes_equals(examples):
    stages = plugins.load("schemes", "curriculum").plan(plugins.load("schemes", "curriculum").Config(), Pools(935, 100))
    same, even = by_temperature(stages, examples, 1.0), by_temperature(stages, examples, 1e9)
    assert same[1].passes == pytest.approx(
        {"text@de": 1, "text@en": 1, "text@fr": 1, "speech@en": 3, "speech@fr": 3, "synthetic": 0}
    )
    assert even[1].passes["speech@fr"] == pytest.approx(15)  # half of 3 x 100 rows, of ten recordings
    assert [stage.name for stage in even] == [stage.name for stage in stages]


def test_the_small_language_is_not_seen_less_often_at_a_higher_temperature(examples):
    stage = Stage("text", {"text": 1.0}, epochs=1)
    shares = [by_temperature([stage], examples, t)[0].passes["text@de"] for t in (1, 1.5, 3, 10)]
    assert shares == sorted(shares)
    assert shares[-1] > 5


def test_names_of_parts_compose_with_tasks_and_one_language_stays_whole():
    assert part("speech:transcribe", "fr") == "speech@fr:transcribe"
    alone = with_parts({"text": pool("t", {"fr": 3}), "speech": []})
    assert list(alone) == ["text", "speech"]
    stage = Stage("text", {"text": 1.0, "speech": 0.0}, epochs=1)
    assert by_temperature([stage], alone, 3.0) == [stage]


SCHEME = '''"""English, then French."""
from lalm.plugins import PluginConfig
from lalm.records import Stage


class Config(PluginConfig):
    """No options."""


def plan(cfg, pools):
    return [Stage("English", {"text@en": 1.0}, epochs=1), Stage("French", {"text@fr": 1.0}, epochs=1)]
'''


def test_a_scheme_of_ones_own_names_parts(tmp_path, monkeypatch):
    (tmp_path / "plugins" / "schemes").mkdir(parents=True)
    (tmp_path / "plugins" / "schemes" / "in_turn.py").write_text(SCHEME)
    monkeypatch.setattr(plugins, "_user_roots", [*plugins._user_roots])
    plugins.add_roots([tmp_path / "plugins"])
    rows = [
        {"id": f"{language}{n}", "text": f"say {n}", "intent": "say", "language": language}
        for language in ("en", "fr")
        for n in range(3)
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = parse_recipe({"data": {"corpus": "jsonl", "root": "m.jsonl"}, "scheme": "in_turn"}, tmp_path)
    made = make_examples(recipe, load_pools(recipe.data))
    read = [seen(stage, made)["text"] for stage in plan(recipe, made)]
    assert read == [Counter({"en": 3}), Counter({"fr": 3})]
