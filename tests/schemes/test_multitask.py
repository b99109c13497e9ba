"""The multi-task scheme: passes follow from weights, temperature and sizes as its docstring defines them."""

from __future__ import annotations

import pytest

from lalm import plugins
from lalm.config import load_recipe, parse_recipe, to_yaml
from lalm.data.pools import load_pools
from lalm.errors import ConfigError
from lalm.records import Pools, Stage
from lalm.sections import PluginChoice
from lalm.train.order import epoch_rows
from lalm.train.setup import make_examples, plan

SIZES = {"text:transcribe": 400, "speech:transcribe": 20, "text:intent_only": 200, "speech:intent_only": 40}
POOLS = Pools(num_text=400, num_speech=20, of_tasks=SIZES)


def config(**options):
    module = plugins.load("schemes", "multitask")
    return plugins.configure(module, options, "scheme")


def stages(pools: Pools = POOLS, **options) -> list[Stage]:
    return plugins.load("schemes", "multitask").plan(config(**options), pools)


def base(name: str, pools: Pools = POOLS, **options) -> list[Stage]:
    module = plugins.load("schemes", name)
    return module.plan(plugins.configure(module, options, "scheme"), pools)


def rows(stage: Stage, pools: Pools = POOLS) -> dict[str, float]:
    """Rows an epoch by pool."""
    sizes = {"text": pools.num_text, "speech": pools.num_speech, "synthetic": pools.num_synthetic, **pools.of_tasks}
    return {pool: passes * sizes[pool] for pool, passes in stage.passes.items() if passes}


@pytest.mark.parametrize(
    "name", [name for name in plugins.names("schemes") if not hasattr(plugins.load("schemes", name), "tasks")]
)
@pytest.mark.parametrize("temperature", [1, 5])
def test_what_the_main_task_sees_is_what_the_base_sees(name, temperature):
    several = stages(base=name, tasks={"transcribe": 0.5, "intent_only": 2}, temperature=temperature)
    alone = base(name)
    assert len(several) == len(alone)
    for one, other in zip(several, alone, strict=True):
        main = {pool: passes for pool, passes in one.passes.items() if ":" not in pool}
        assert main == other.passes
        assert (one.name, one.epochs, one.learning_rate_scale, one.warmup_ratio, one.groups) == (
            (other.name, other.epochs, other.learning_rate_scale, other.warmup_ratio, other.groups)
        )


def test_a_weight_is_rows_for_each_row_of_the_main_task_whatever_a_task_makes_of_an_item():
    text, mixed = stages(tasks={"transcribe": 0.5, "intent_only": 1.5})
    assert rows(text) == pytest.approx({"text": 400, "text:transcribe": 200, "text:intent_only": 600})
    assert rows(mixed) == pytest.approx(
        {"text": 400, "text:transcribe": 200, "text:intent_only": 600}
        | {"speech": 60, "speech:transcribe": 30, "speech:intent_only": 90}
    )
    assert mixed.passes["speech:intent_only"] == pytest.approx(90 / 40)


@pytest.mark.parametrize("temperature", [0.5, 1, 2, 4])
def test_rows_are_drawn_in_proportion_to_weights_raised_to_one_over_the_temperature(temperature):
    weights = {"main": 2.0, "transcribe": 0.5, "intent_only": 3.0}
    options = {"tasks": {name: weights[name] for name in ("transcribe", "intent_only")}, "main_weight": 2.0}
    (stage,) = stages(base="direct_mixing", temperature=temperature, max_passes=100, **options)
    found = rows(stage)
    of = {"main": found["text"], "transcribe": found["text:transcribe"], "intent_only": found["text:intent_only"]}
    raised = {name: weight ** (1 / temperature) for name, weight in weights.items()}
    for name, number in of.items():
        assert number / sum(of.values()) == pytest.approx(raised[name] / sum(raised.values()))


def test_a_high_temperature_makes_all_tasks_alike():
    (stage,) = stages(base="direct_mixing", tasks={"transcribe": 0.01, "intent_only": 50}, temperature=1e6)
    assert rows(stage) == pytest.approx({**{pool: 400 for pool in rows(stage) if "text" in pool}} | {
        pool: 20 for pool in rows(stage) if "speech" in pool}, rel=1e-4)  # fmt: skip


def test_stages_may_have_weights_of_their_own():
    text, mixed = stages(
        tasks={"transcribe": 1, "intent_only": 1},
        stage_weights={"text": {"main": 0, "transcribe": 0}, "mixed": {"intent_only": 0, "main": 2}},
    )
    assert rows(text) == {"text:intent_only": 400}
    assert rows(mixed) == {"text": 800, "speech": 120, "text:transcribe": 400, "speech:transcribe": 60}


def test_few_rows_are_not_gone_over_without_end_and_none_not_at_all():
    few = Pools(400, 20, of_tasks={"text:transcribe": 4, "speech:transcribe": 0})
    (stage,) = stages(few, base="direct_mixing", tasks={"transcribe": 1}, max_passes=3)
    assert stage.passes == {"text": 1.0, "speech": 1.0, "synthetic": 0.0, "text:transcribe": 3.0}


def test_tasks_are_written_as_a_mapping_or_as_a_list():
    mapping = config(tasks={"transcribe": 1.0, "slots_only": 0.5})
    listed = config(tasks=["transcribe", {"name": "slots_only", "weight": 0.5}])
    assert mapping == listed
    own = config(tasks=[{"name": "transcribe", "options": {"written": False}}])
    (choice,) = plugins.load("schemes", "multitask").tasks(own, PluginChoice(name="slu"))
    assert (choice.name, choice.options["written"]) == ("transcribe", False)
    assert "instruction" in choice.options, "options are written out"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tasks": {"transcirbe": 1}}, r"scheme\.tasks: Unknown tasks plug-in 'transcirbe'\. Did you mean 'transcribe'"),
        ({"tasks": {}}, r"scheme\.tasks: there is no auxiliary task"),
        ({"tasks": ["transcribe", "transcribe"]}, r"scheme\.tasks: transcribe stands twice"),
        ({"tasks": {"transcribe": -1}}, r"scheme\.tasks\.0\.weight"),
        ({"tasks": [{"name": "transcribe", "wieght": 1}]}, r"wieght.*Did you mean 'weight'"),
        ({"tasks": [{"name": "transcribe", "options": {"writen": False}}]}, r"transcribe\.writen.*Did you mean 'written'"),
        ({"base": "multitask"}, r"scheme\.base: multitask is a scheme over others"),
        ({"base": "curiculum"}, r"scheme\.base: Unknown schemes plug-in 'curiculum'\. Did you mean 'curriculum'"),
        ({"base": {"name": "curriculum", "speech_pases": 1}}, r"speech_pases.*Did you mean 'speech_passes'"),
        ({"temperature": 0}, r"scheme\.temperature"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_options_is_said(options, words):
    with pytest.raises(ConfigError, match=words):
        config(**options)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"mixt": {"main": 1}}, r"stage_weights\.mixt: the scheme curriculum has no such stage\. Did you mean 'mixed'"),
        ({"text": {"transcript": 1}}, r"stage_weights\.text\.transcript: no such task\. Did you mean 'transcribe'"),
        ({"text": {"main": 0, "transcribe": 0}}, r"stage_weights\.text: all weights are 0"),
    ],
)
def test_weights_of_stages_and_tasks_that_are_not_there_are_refused(weights, words):
    with pytest.raises(ConfigError, match=words):
        stages(stage_weights=weights)


# -- with a recipe -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    plugins.load("corpora", "home").make_tiny(root, seed=0)
    return root


def recipe(home, tasks, **sections):
    values = {
        "data": {"corpus": "home", "root": str(home), "speech_share": 0.6},
        "scheme": {"name": "multitask", "base": "direct_mixing", "tasks": tasks},
        **sections,
    }
    return parse_recipe(values, home)


def test_a_recipe_is_written_out_and_read_back_equal(home, tmp_path):
    one = recipe(home, {"transcribe": 0.5})
    (tmp_path / "recipe.yaml").write_text(to_yaml(one))
    assert load_recipe(tmp_path / "recipe.yaml") == one
    assert one.scheme.options["base"]["speech_passes"] == 3.0, "options of the base are written out"
    assert one.scheme.options["tasks"][0]["options"]["written"] is True


def test_the_rows_of_every_task_come_from_the_same_recordings(home):
    one = recipe(home, {"transcribe": 1, "listening_comprehension": 0.5})
    pools = load_pools(one.data)
    made = make_examples(one, pools)
    heard = {path for row in pools.speech for path in row.recordings}
    assert len(heard) == 3
    for pool in ("speech", "speech:transcribe", "speech:listening_comprehension"):
        assert {path for example in made[pool] for path in example.recordings} == heard, pool
    assert all(not example.recordings for pool, rows in made.items() if "text" in pool for example in rows)
    for pool, rows in made.items():
        assert len({example.id for example in rows}) == len(rows), pool
    first = made["text:transcribe"][0]
    assert (first.id, first.task) == (f"{made['text'][0].id}/transcribe/1", "transcribe")


def test_a_smaller_budget_changes_nothing_about_what_is_made_of_a_row(home):
    small, large = (
        make_examples(one, load_pools(one.data))
        for share in (0.2, 1.0)
        for one in [recipe(home, ["listening_comprehension"], data={"corpus": "home", "root": str(home), "speech_share": share})]
    )  # fmt: skip
    assert small["text:listening_comprehension"] == large["text:listening_comprehension"]
    known = {example.id: example for example in large["speech:listening_comprehension"]}
    assert all(known[example.id] == example for example in small["speech:listening_comprehension"])


def test_an_epoch_goes_over_the_rows_that_the_weights_ask_for(home):
    one = recipe(home, {"transcribe": 0.5})
    made = make_examples(one, load_pools(one.data))
    (stage,) = plan(one, made)
    seen = epoch_rows(stage, {pool: len(rows) for pool, rows in made.items()}, 0, 0)
    count = {pool: sum(name == pool for name, _ in seen) for pool in made}
    assert count["text:transcribe"] == pytest.approx(count["text"] / 2, abs=1)
    assert count["speech:transcribe"] == pytest.approx(count["speech"] / 2, abs=1)
    main = [row for row in seen if ":" not in row[0]]
    alone = recipe(home, {}, scheme="direct_mixing")
    (plain,) = plan(alone, make_examples(alone, load_pools(alone.data)))
    assert sorted(main) == sorted(epoch_rows(plain, {pool: len(rows) for pool, rows in made.items()}, 0, 0))


@pytest.mark.parametrize(
    ("tasks", "sections", "words"),
    [
        (
            ["commonsense_reasoning"],
            {},
            r"commonsense_reasoning can use none of the \d+ training rows.*text and a label",
        ),
        (["slu"], {}, r"scheme\.tasks: slu is the recipe's own task already"),
        ([], {"scheme": "direct_mixing", "task": "answer"}, r"The task answer can use none"),
    ],
)
def test_a_task_that_can_use_no_row_and_the_own_task_beside_itself_are_refused(home, tasks, sections, words):
    one = recipe(home, tasks, **sections)
    pools = load_pools(one.data)
    with pytest.raises(ConfigError, match=words):
        make_examples(one, pools)


def test_tags_end_the_instructions_of_all_tasks_and_nothing_else_changes(home):
    plain = recipe(home, {"transcribe": 1})
    tagged = recipe(home, {"transcribe": 1}, task_tags=True)
    pools = load_pools(plain.data)
    without, having = make_examples(plain, pools), make_examples(tagged, pools)
    for pool, rows in without.items():
        task = pool.partition(":")[2] or "slu"
        for example, other in zip(rows, having[pool], strict=True):
            assert other.instruction == f"{example.instruction}\n[task: {task}] [language: en]"
            assert (other.answer, other.id, other.text, other.audio) == (
                (example.answer, example.id, example.text, example.audio)
            )
