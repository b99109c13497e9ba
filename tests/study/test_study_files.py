"""The study files that come with the project: each parses into the runs it announces, and each is run in its tiny form."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lalm import cli, plugins
from lalm.corpora import dialogues, home
from lalm.data.manifest import write_manifest
from lalm.data.pools import load_pools
from lalm.errors import ConfigError
from lalm.rundir import read_json
from lalm.study.demo import STUDY as DEMO
from lalm.study.plan import load_study, runs
from lalm.study.run import run_study

STUDIES = Path(__file__).parents[2] / "studies"
FILES = {"demo": DEMO, **{path.stem: path for path in sorted(STUDIES.glob("*.yaml"))}}
# file -> (cells, cascade rows) of one seed, seeds
GRID = {
    "demo": (5, 3, 1),
    "barista": (10, 5, 2),
    "fsdd": (8, 4, 2),
    "selectors": (4, 0, 3),
    "sqa": (4, 0, 1),
    "sqa_full": (15, 0, 3),
}
OF_TURNS = ("sqa", "sqa_full")
TINY = [
    "seeds=[0]",
    "speech_shares=[0,1]",
    "workers=2",
    "recipe.backbone.tiny=true",
    "recipe.tuner.last_layers=1",
    "recipe.evaluate.max_new_tokens=4",
    "recipe.evaluate.num_resamples=20",
]
CORPUS_TINY = {
    "barista": ["recipe.data.corpus.test_size=2"],
    "selectors": ["recipe.data.corpus.test_size=2", "speech_shares=[0.5]", "selectors=[random, coverage]"],
}


def test_every_study_file_is_covered():
    assert set(FILES) == set(GRID)


@pytest.mark.parametrize("name", GRID)
def test_grid_is_as_announced(name):
    study, base = load_study(FILES[name])
    todo = runs(study, base)
    cells, cascades, seeds = GRID[name]
    assert sum(run.role == "cell" for run in todo) == cells * seeds
    assert sum(run.role == "cascade" for run in todo) == cascades * seeds
    assert {run.seed for run in todo} == set(range(seeds))
    assert study.primary_metric in todo[0].recipe.evaluate.metrics
    for run in todo:
        choice = run.recipe.backbone.options["connector"]["name"]
        assert choice == ("cascade" if run.role == "cascade" or name in OF_TURNS else "hybrid")
        assert run.recipe.backbone.options["tiny"] is False
        assert run.recipe.train.metric_for_best_model is None  # fixed epochs, last checkpoint: nothing leaks
    assert {run.share for run in todo if run.scheme == "text_only"} <= {0.0}
    assert all(run.share == 1.0 for run in todo if run.scheme == "speech_only")


def test_barista_is_the_grid_of_the_question():
    study, base = load_study(FILES["barista"])
    assert study.speech_shares == (0, 0.02, 0.05, 0.1, 1.0)
    assert [choice.name for choice in study.schemes] == ["text_only", "direct_mixing", "curriculum", "speech_only"]
    assert study.primary_metric == "command_acceptance"
    recipe = runs(study, base)[0].recipe
    assert recipe.data.corpus.options["test_size"] == 200
    assert recipe.data.root == STUDIES.parents[1] / "shared" / "data" / "barista"


@pytest.mark.parametrize("name", ["barista", "fsdd"])
def test_data_folder_can_be_named(name, tmp_path):
    study, base = load_study(FILES[name], [f"recipe.data.root={tmp_path}"])
    assert {run.recipe.data.root for run in runs(study, base)} == {tmp_path}


@pytest.mark.parametrize(("name", "text", "pool", "test"), [("barista", 629, 219, 200), ("fsdd", 60, 200, 200)])
def test_real_data_has_the_numbers_that_the_file_names(name, text, pool, test):
    study, base = load_study(FILES[name])
    data = next(run for run in runs(study, base) if run.share == 1.0).recipe.data
    if not data.root.is_dir():
        pytest.skip(f"{data.root} is not there")
    pools = load_pools(data)
    assert (len(pools.text), len(pools.speech), len(pools.test)) == (text, pool, test)


def test_mistyped_key_is_answered():
    with pytest.raises(ConfigError, match="Did you mean"):
        load_study(FILES["demo"], ["speech_share=[0]"])


def test_selectors_are_compared_at_one_budget_of_the_barista_study():
    study, base = load_study(FILES["selectors"])
    todo = runs(study, base)
    barista = next(run for run in runs(*load_study(FILES["barista"])) if run.name == "curriculum-10-s0").recipe
    assert {run.selector for run in todo} == {"random", "stratified", "coverage", "got_d"}
    for run in todo:
        data = run.recipe.data.model_copy(update={"selector": None, "budget_seed": 0})
        assert (data, run.recipe.tuner, run.recipe.backbone) == (barista.data, barista.tuner, barista.backbone)


@pytest.mark.parametrize("name", [name for name in GRID if name not in OF_TURNS])
def test_study_runs_in_its_tiny_form(name, tmp_path):
    study, base = load_study(FILES[name])
    corpus = plugins.load("corpora", runs(study, base)[0].recipe.data.corpus.name)
    corpus.make_tiny(tmp_path / "data", 0)
    overrides = [f"recipe.data.root={tmp_path / 'data'}", *TINY, *CORPUS_TINY.get(name, [])]
    out = run_study(FILES[name], tmp_path / "out", overrides)
    results = read_json(out / "results.json")
    schemes = {choice.name for choice in study.schemes}
    assert {cell["scheme"] for cell in results["cells"]} == schemes
    selectors = {cell["selector"] for cell in results["cells"]}
    assert len(results["cells"]) == len(schemes) * len(selectors)
    cascades = {row["speech_share"] for row in results["references"] if row["name"] == "cascade"}
    assert cascades == ({0.0, 1.0} if study.cascade else set())
    for cell in results["cells"]:
        score = cell["metrics"][study.primary_metric]
        assert score["n"] == results["test"]["num"] > 0
        assert (out / cell["run"] / "adapter").is_dir()
    spoken = {cell["num_speech"] for cell in results["cells"] if cell["scheme"] != "text_only"}
    assert spoken == {results["pool"]["num_speech"] // (2 if study.selectors else 1)}
    assert list((out / "stages").glob("*.safetensors"))  # a curriculum's text stage is kept for the runs of its seed


def test_one_task_and_several_are_compared_on_spoken_dialogues(tmp_path):
    root = tmp_path / "speech"
    root.mkdir()
    dialogues.make_tiny(root, 0)
    rows = [
        replace(spoken(row, root), split=split, source="synthetic")
        for split in ("train", "test")
        for row in dialogues.read(root, split, dialogues.Config())
    ]
    write_manifest(root / "manifest.jsonl", rows)
    overrides = [f"recipe.data.root={root}", *TINY, "speech_shares=[1]"]
    out = run_study(FILES["sqa"], tmp_path / "out", overrides)
    results = read_json(out / "results.json")
    assert {(cell["scheme"], cell["num_speech"]) for cell in results["cells"]} == {("curriculum", 2), ("multitask", 2)}
    answered = {cell["metrics"]["squad_f1"]["n"] for cell in results["cells"]}
    assert answered == {3}, "a clear request, and an ambiguous one after each of two replies"
    (pair,) = (one for one in results["comparisons"] if one["metric"] == "squad_f1")
    compared = [Path(run).name for run in (*pair["a_runs"], *pair["b_runs"])]
    assert sorted(compared) == ["curriculum-100-s0", "multitask-100-s0"]


def spoken(row, folder):
    """The row with recordings of noise."""

    def sound(turn):
        path = folder / f"{abs(hash((row.split, turn.role, turn.text)))}.wav"
        soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(8000), 16_000)
        return replace(turn, audio=path, duration_s=0.5)

    clear = row.clarification
    if clear is not None:
        clear = replace(clear, replies=tuple((sound(turn), answers) for turn, answers in clear.replies))
    return replace(row, turns=tuple(map(sound, row.turns)), clarification=clear)


def test_ablations_leave_each_task_out_in_turn():
    study, _ = load_study(FILES["sqa_full"])
    (everything, *fewer) = (choice for choice in study.schemes if choice.name == "multitask")
    assert [set(everything.options["tasks"]) - set(choice.options["tasks"]) for choice in fewer] == [
        {"listening_comprehension"},
        {"commonsense_reasoning"},
        {"response_generation"},
    ]
    small, _ = load_study(FILES["sqa"])
    assert small.recipe == study.recipe
    assert small.schemes == (study.schemes[0], everything)


@pytest.mark.parametrize(("name", "num_runs"), [("english_to_french", 22), ("xs_cot", 3), ("mixture", 3)])
def test_studies_across_languages_ask_for_the_runs_they_announce(name, num_runs):
    study, base = load_study(STUDIES / "transfer" / f"{name}.yaml")
    todo = runs(study, base)
    assert len(todo) == num_runs
    assert {run.variant for run in todo} == set(study.variants or {None})
    sources = [Path(part["root"]).name for part in todo[0].recipe.data.corpus.options["parts"].values()]
    assert sources == ["slurp", "massive_fr", "xling_speech"]


def test_a_variant_may_tag_the_instructions():
    study, base = load_study(STUDIES / "transfer" / "mixture.yaml")
    plain, warm, tagged = (run.recipe for run in runs(study, base))
    assert [one.task_tags for one in (plain, warm, tagged)] == [False, False, True]
    assert [one.data.language_temperature for one in (plain, warm, tagged)] == [None, 3, None]
    assert tagged.model_copy(update={"task_tags": False}) == plain


def test_a_study_ends_with_its_table_and_the_page(tmp_path, capsys):
    home.make_tiny(tmp_path / "data", 0)
    out = tmp_path / "out"
    overrides = [f"recipe.data.root={tmp_path / 'data'}", *TINY, "schemes=[text_only, speech_only]", "cascade=null"]
    assert cli.main(["study", str(DEMO), *overrides, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Exact match")
    assert [line.split("  ")[0] for line in lines[1:4]] == ["recordings", "text only", "speech only"]
    assert lines[-1] == f"Done: {out / 'report.html'}"
    assert (out / "report.html").is_file()


def test_a_study_may_name_a_file_with_its_recipe(tmp_path):
    study = {
        "title": "t",
        "recipe": "own.yaml",
        "schemes": ["text_only"],
        "speech_shares": [0],
        "primary_metric": "exact_match",
    }
    (tmp_path / "study.yaml").write_text(json.dumps(study), encoding="utf-8")
    (tmp_path / "own.yaml").write_text(
        (STUDIES.parent / "recipes" / "text_only.yaml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    found = runs(*load_study(tmp_path / "study.yaml"))
    assert {run.recipe.data.corpus.name for run in found} == {"jsonl"}
    (tmp_path / "own.yaml").write_text(json.dumps(study), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"own\.yaml: this is a study, and a recipe is needed"):
        runs(*load_study(tmp_path / "study.yaml"))
