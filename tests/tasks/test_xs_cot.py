"""The chain through English: its steps, how they are cut short, what counts of an answer, and the schedule over levels."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import yaml

from lalm import plugins
from lalm.config import parse_recipe
from lalm.data.pools import load_pools
from lalm.errors import ConfigError, UserError
from lalm.evaluate.predict import prediction_row
from lalm.records import Frame, Pools, Slot, Utterance
from lalm.rundir import write_jsonl
from lalm.schemes import semi_implicit
from lalm.sections import PluginChoice
from lalm.tasks import xs_cot
from lalm.train.order import epoch_rows
from lalm.train.setup import make_examples, plan, task_examples

FRAME = Frame("alarm_set", (Slot("time", "sept heures"),))
FRENCH = Utterance("fr-1", "réveille-moi à sept heures demain", frame=FRAME, language="fr", meta={"slurp_id": 7})
ENGLISH = Utterance("en-7", "wake me at seven tomorrow", frame=FRAME, meta={"slurp_id": "7"})
JSON = '{"intent": "alarm_set", "slots": [{"time": "sept heures"}]}'


def answer(item: Utterance, **options) -> str:
    cfg = xs_cot.Config(**options)
    (made,) = xs_cot.examples(item, cfg, Random(0), xs_cot.survey([FRENCH, ENGLISH], cfg))
    assert made.frame == item.frame
    return made.answer


def test_the_chain_is_transcript_translation_frame():
    said, english = "said: réveille-moi à sept heures demain", "in English: wake me at seven tomorrow"
    assert answer(FRENCH) == f"{said}\n{english}\n{JSON}"
    assert answer(FRENCH, internalised=1) == f"said: réveille-moi à ...\n{english}\n{JSON}"
    assert answer(FRENCH, internalised=2, num_kept=1) == f"said: réveille-moi ...\nin English: wake ...\n{JSON}"
    assert answer(ENGLISH) == f"said: wake me at seven tomorrow\n{JSON}", "nothing to translate"
    own = Utterance("fr-2", "bonjour", frame=FRAME, language="fr", meta={"translation": "hello"})
    assert answer(own) == f"said: bonjour\nin English: hello\n{JSON}"
    assert answer(Utterance("fr-3", "bonjour", frame=FRAME, language="fr")) == f"said: bonjour\n{JSON}"
    german = replace(own, meta={"translation": "hallo", "translation_language": "de"})
    assert answer(german) == f"said: bonjour\n{JSON}", "in another language than the pivot"
    assert answer(german, pivot="de") == f"said: bonjour\nin German: hallo\n{JSON}"
    (told,) = xs_cot.examples(own, xs_cot.Config(instruction='In {pivot}: {"intent": "<x>"} or }'), Random(0))
    assert told.instruction == 'In English: {"intent": "<x>"} or }'
    assert "in English" in xs_cot.examples(FRENCH, xs_cot.Config(), Random(0), {})[0].instruction


def test_what_is_cut_short():
    assert xs_cot.cut_short("a b c", 3, "en") == "a b c"
    assert xs_cot.cut_short("a b c", 2, "en") == "a b ..."
    assert xs_cot.cut_short("明天早上七点叫我", 2, "zh") == "明天早上..."


def test_the_frame_of_a_chain_is_read_as_it_stands():
    (made,) = xs_cot.examples(FRENCH, xs_cot.Config(), Random(0), {"7": "wake me"})
    row = prediction_row(made, made.answer, 0.1)
    assert (row["status"], row["prediction"], row["raw"]) == ("ok", FRAME.to_json(), made.answer)
    assert prediction_row(made, "said: réveille\nin English: wake", 0.1)["status"] == "failed"
    assert prediction_row(made, JSON, 0.1)["status"] == "ok", "an answer without its steps"


def test_levels_follow_each_other_and_cut_more_short():
    cfg = semi_implicit.Config()
    own = PluginChoice.model_validate({"name": "xs_cot", "internalised": 2, "num_kept": 1, "pivot": "de"})
    made = semi_implicit.tasks(cfg, own)
    assert [task.name for task in made] == ["xs_cot", "xs_cot"]
    assert [dict(task.options) for task in made] == [
        {"internalised": level, "num_kept": 1, "pivot": "de", "label": f"xs_cot_{level}"} for level in (0, 1)
    ], "what the recipe's task is told, all levels are"
    for wrong in ("slu", "xs_cot", {"name": "xs_cot", "internalised": 1}):
        with pytest.raises(ConfigError, match=r"task: \{name: xs_cot, internalised: 2\}"):
            semi_implicit.tasks(cfg, PluginChoice.model_validate(wrong))
    stages = semi_implicit.plan(cfg, Pools(10, 4))
    assert [dict(stage.passes) for stage in stages] == [
        {"text:xs_cot_0": 1.0, "speech:xs_cot_0": 1.0, "synthetic:xs_cot_0": 0.0},
        {"text:xs_cot_1": 1.0, "speech:xs_cot_1": 1.0, "synthetic:xs_cot_1": 0.0},
        {"text": 1.0, "speech": 1.0, "synthetic": 0.0},
    ]
    assert len({stage.name for stage in stages}) == 3
    with pytest.raises(ConfigError, match="levels are of 0, 1 and 2, rising"):
        plugins.configure(semi_implicit, {"levels": [1, 0]}, "scheme")


def test_a_recipe_trains_through_the_levels_with_translations_from_a_corpus_that_is_not_trained_on(tmp_path):
    def lines(language, ids):
        return [
            {
                "slurp_id": number, "sentence": f"{language} word {number} now", "intent": "i", "scenario": "s", "action": "a",
                "tokens": [{"surface": word} for word in (language, "word", str(number), "now")], "entities": [], "recordings": [],
            }
            for number in ids
        ]  # fmt: skip

    write_jsonl(tmp_path / "en" / "test.jsonl", lines("en", range(30)))
    write_jsonl(tmp_path / "fr" / "test.jsonl", lines("fr", range(30)))
    french = {
        "name": "slurp",
        "language": "fr",
        "train": "test.jsonl",
        "dev": None,
        "test": "test.jsonl",
        "test_size": 10,
    }
    english = {"name": "slurp", "train": "test.jsonl", "dev": None}
    corpus = {
        "name": "joined",
        "parts": {"fr": {"corpus": french, "root": "fr"}},
        "translations": {"corpus": {**english, "test": "none.jsonl"}, "root": "en", "splits": ["train"]},
    }
    values = {
        "data": {"corpus": corpus, "root": str(tmp_path)},
        "task": {"name": "xs_cot", "internalised": 2},
        "backbone": {"name": "smol", "tiny": True, "connector": "mlp"},
        "scheme": "semi_implicit",
    }
    recipe = parse_recipe(yaml.safe_load(yaml.safe_dump(values)), tmp_path)
    pools = load_pools(recipe.data)
    assert {row.language for row in pools.text} == {"fr"}
    assert all(row.meta["translation"] == (row.text or "").replace("fr", "en") for row in pools.text)
    assert {row.meta["translation_language"] for row in pools.text} == {"en"}
    examples = make_examples(recipe, pools)
    seen = [
        examples[pool][index].answer
        for stage in plan(recipe, examples)
        for pool, index in epoch_rows(stage, {name: len(rows) for name, rows in examples.items()}, 0, 0)
    ]
    cuts = [one.count("...") for one in seen]
    assert cuts == [0] * 20 + [1] * 20 + [2] * 20
    assert all("in English: en word" in one for one in seen)
    labelled = parse_recipe({**values, "scheme": "text_only", "task": {"name": "xs_cot", "label": "chain"}}, tmp_path)
    row = task_examples(labelled, pools.text)[0]
    assert prediction_row(row, row.answer, 0.1)["status"] == "ok", "a label of its own changes nothing in what is read"
    elsewhere = {
        **corpus,
        "translations": {**corpus["translations"], "corpus": {**english, "test": "none.jsonl", "language": "fr"}},
    }
    for other, message in (
        ({**corpus, "apart": None}, "translations are found by `apart`"),
        (elsewhere, "none of the 20 training rows has its slurp_id among the sentences in"),
    ):
        with pytest.raises(UserError, match=message):
            load_pools(parse_recipe({**values, "data": {"corpus": other, "root": str(tmp_path)}}, tmp_path).data)
