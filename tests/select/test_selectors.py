"""What every selector keeps to (nested, pure, seeded), and what each of the simple ones does."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections import Counter
from random import Random

import numpy as np
import pytest

from lalm import plugins
from lalm.data.budget import balanced_order
from lalm.errors import ConfigError, DataError
from lalm.records import Frame, Known, Slot, Utterance
from lalm.select import coverage, random, stratified, uncertainty
from lalm.select._features import ngrams

ROOMS = ("kitchen", "hall", "attic", "cellar", "garage")
VERBS = {"heat": ("warm up", "heat"), "light": ("light", "brighten up"), "mute": ("mute", "silence")}


def sentence(name, text, intent=None, **slots):
    frame = Frame(intent, tuple(Slot(kind, value) for kind, value in slots.items()))
    return Utterance(name, text=text, frame=frame)


@pytest.fixture
def rows():
    """Thirty sentences of three intents about five rooms."""
    made = [
        sentence(f"{intent}-{room}-{i}", f"{verb} the {room}", intent, room=room)
        for intent, verbs in VERBS.items()
        for room in ROOMS
        for i, verb in enumerate(verbs)
    ]
    Random(0).shuffle(made)
    return made


@pytest.fixture
def configs(rows, tmp_path):
    """Each selector that ships, with what it needs; called with a seed."""
    scores = tmp_path / "scores.jsonl"
    rng = Random(1)
    scores.write_text("".join(json.dumps({"id": r.id, "confidence": rng.randint(0, 3)}) + "\n" for r in rows))
    target = tmp_path / "target.jsonl"
    target.write_text(json.dumps({"id": "t", "text": "mute the attic", "intent": "mute"}) + "\n")
    given = {"uncertainty": {"scores": scores}, "got_d": {"target": target}}

    def make(name, seed=0):
        module = plugins.load("select", name)
        return module, module.Config(seed=seed, **given.get(name, {}))

    return make


@pytest.mark.parametrize("name", plugins.names("select"))
def test_every_selector_is_nested_pure_and_seeded(name, rows, configs):
    module, cfg = configs(name)
    whole = module.choose(rows, len(rows), cfg)
    assert sorted(whole) == sorted(row.id for row in rows)
    for budget in (0, 1, 7, 20):
        assert module.choose(rows, budget, cfg) == whole[:budget]
    assert module.choose(list(reversed(rows)), 30, cfg) == whole, "the order of the file matters"
    assert module.choose([], 3, cfg) == []
    others = [module.choose(rows, 30, configs(name, seed)[1]) for seed in (1, 2)]
    assert any(other != whole for other in others), "thirty sentences hold equals, which the seed must part"


def test_a_random_draw_keeps_its_order_when_candidates_go(rows):
    whole = random.choose(rows, 30, random.Config(seed=4))
    kept = [row for row in rows if row.id not in whole[:5]]
    assert random.choose(kept, 25, random.Config(seed=4)) == whole[5:]
    firsts = Counter(random.choose(rows, 1, random.Config(seed=seed))[0] for seed in range(300))
    assert len(firsts) == 30
    assert max(firsts.values()) < 30, "ten are expected of each"


def test_stratified_is_the_order_of_budgets_and_minds_what_is_recorded(rows):
    order = [row.id for row in balanced_order(rows, 3)]
    assert stratified.choose(rows, 12, stratified.Config(seed=3)) == order[:12]
    recorded = tuple(sentence(f"r{i}", "warm up the hall", "heat", room="hall") for i in range(5))
    after = stratified.choose(rows, 6, stratified.Config(seed=3), Known(recorded))
    intents = Counter(row.frame.intent for row in rows if row.id in after)
    assert intents["heat"] == 0
    assert intents["light"] == intents["mute"] == 3


# -- coverage ----------------------------------------------------------------------------------------------------------------


def units(row):
    """The units of a sentence, written down again: word, letter triple, slot value, label."""
    letters = f" {row.text} "
    return {
        **{("word", word): 1.0 for word in row.text.split()},
        **{("ngram", letters[i : i + 3]): 0.2 for i in range(len(letters) - 2)},
        **{("value", slot): 2.0 for slot in row.frame.slots},
        **{("slot", slot.type): 5.0 for slot in row.frame.slots},
        ("intent", row.frame.intent): 5.0,
    }


def objective(chosen, rows):
    """F(S) by its definition."""
    held = Counter(unit for row in rows for unit in units(row))
    times = Counter(unit for row in chosen for unit in units(row))
    weight = {unit: kind for row in rows for unit, kind in units(row).items()}
    return sum(weight[u] * math.log2(1 + held[u]) * math.sqrt(n) for u, n in times.items())


def test_coverage_is_the_plain_greedy_choice_by_its_objective(rows):
    chosen = coverage.choose(rows, 30, coverage.Config(per_second=False))
    by_id = {row.id: row for row in rows}
    for number, name in enumerate(chosen[:12]):
        before = [by_id[one] for one in chosen[:number]]
        gains = {row.id: objective([*before, row], rows) for row in rows if row not in before}
        assert gains[name] >= max(gains.values()) - 1e-6, number


def test_coverage_by_the_second_divides_the_gain_by_the_reading(rows):
    longer = [sentence(f"long-{row.id}", f"{row.text} if you would be so very kind", row.frame.intent) for row in rows]
    pool = [*rows, *longer]

    def mean_letters(per_second):
        chosen = coverage.choose(pool, 8, coverage.Config(per_second=per_second))
        return np.mean([len(row.text) for row in pool if row.id in chosen])

    assert mean_letters(True) < mean_letters(False)


def test_greedy_coverage_is_near_the_best_choice(rows):
    few = rows[:10]
    best = max(objective(chosen, few) for chosen in itertools.combinations(few, 3))
    chosen = set(coverage.choose(few, 3, coverage.Config(per_second=False)))
    found = objective([row for row in few if row.id in chosen], few)
    assert (1 - 1 / math.e) * best <= found <= best + 1e-9


def test_what_is_recorded_gains_little(rows):
    recorded = tuple(row for row in rows if row.frame.intent != "mute")
    left = [row for row in rows if row not in recorded]
    pool = [*left, sentence("again", "warm up the hall", "heat", room="hall")]
    assert coverage.choose(pool, len(pool), coverage.Config(), Known(recorded))[-1] == "again"
    only_values = tuple(
        Utterance(f"r{i}", frame=Frame(None, (Slot("room", room),))) for i, room in enumerate(ROOMS[1:])
    )
    (first,) = coverage.choose(left, 1, coverage.Config(word=0, ngram=0, label=0, per_second=False), Known(only_values))
    assert first.startswith("mute-kitchen")


def test_letter_ngrams_stand_for_sounds_across_words():
    assert ngrams(sentence("a", "Up, up!"), 3) == [" up", "up ", "p u"]


def test_coverage_says_what_each_adds():
    pool = [sentence("a", "heat the hall", "heat", room="hall"), sentence("b", "heat the hall", "heat", room="hall")]
    cfg = coverage.Config()
    first, second = coverage.reasons(pool, coverage.choose(pool, 2, cfg), cfg)
    assert first == (
        "first of intent heat; first with slot room; new slot value: room hall; new words: heat, the, hall; "
        "new letter sequences: 13"
    )
    assert second == "one more of intent heat, nothing new in it"


def test_ten_thousand_candidates_take_seconds():
    rng = Random(0)
    vocabulary = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 9))) for _ in range(3000)]
    pool = [
        sentence(str(i), " ".join(vocabulary[int(3000 * rng.random() ** 3)] for _ in range(rng.randint(2, 12))), "ask")
        for i in range(10_000)
    ]
    started = time.process_time()
    assert len(coverage.choose(pool, 1000, coverage.Config())) == 1000
    assert time.process_time() - started < 15


# -- uncertainty -------------------------------------------------------------------------------------------------------------


def test_the_least_certain_come_first(tmp_path):
    pool = [sentence(name, name) for name in "abc"]
    lines = [{"id": name, "confidence": c, "nll": -c} for name, c in (("a", 0.9), ("b", 0.1), ("c", 0.5), ("z", 0.0))]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    cfg = uncertainty.Config(scores=tmp_path / "p.jsonl")
    assert uncertainty.choose(pool, 3, cfg) == ["b", "c", "a"]
    assert uncertainty.reasons(pool, ["b", "c"], cfg) == [
        "confidence 0.1, place 1 of 3",
        "confidence 0.5, place 2 of 3",
    ]
    low = cfg.model_copy(update={"column": "nll", "certain": "low"})
    assert uncertainty.choose(pool, 2, low) == ["b", "c"]


def test_scores_that_are_not_there_are_listed(tmp_path):
    pool = [sentence(name, name) for name in "abcd"]
    file = tmp_path / "p.jsonl"
    cfg = uncertainty.Config(scores=file)
    file.write_text('{"id": "a", "confidence": 1}\n{"id": "b"}\n')
    with pytest.raises(DataError, match="3 candidates of 4 without 'confidence'") as error:
        uncertainty.choose(pool, 1, cfg)
    assert error.value.problems == ("b", "c", "d")
    file.write_text('{"id": "a", "confidence": "high"}\n{"id": "b", "confidence": NaN}\n[1]\n{"id": 3}\n')
    with pytest.raises(DataError) as error:
        uncertainty.choose(pool, 1, cfg)
    assert len(error.value.problems) == 4
    assert "line 1: 'confidence' is 'high', a number is needed" in str(error.value)
    file.write_text('{"id": "a", "confidenc": 1}\n')
    with pytest.raises(DataError, match=r"no row has 'confidence'\. Did you mean 'confidenc'"):
        uncertainty.choose(pool, 1, cfg)
    with pytest.raises(ConfigError, match=r"scores=PREDICTIONS"):
        uncertainty.choose(pool, 1, uncertainty.Config())
