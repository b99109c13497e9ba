"""The readers on the real corpora, where they are: numbers of rows, labels and minutes as their makers state them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lalm import plugins
from lalm.config import DataSection
from lalm.data.pools import load_pools

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def corpus(name, folder=None, **options):
    root = DATA / (folder or name)
    if not root.is_dir():
        pytest.skip(f"{root} is not there: real data do not come with the project")
    module = plugins.load("corpora", name)
    cfg = module.Config(**options)
    return {split: list(module.read(root, split, cfg)) for split in ("train", "dev", "test")}


def labels(rows):
    return {row.frame.intent for row in rows}, {slot.type for row in rows for slot in row.frame.slots}


def test_barista_has_432_sentences_and_419_recordings():
    rows = corpus("barista")
    texts = [row for row in rows["train"] if row.audio is None]
    pool = [row for row in rows["train"] if row.audio is not None]
    assert (len(texts), len(pool), len(rows["dev"]), len(rows["test"])) == (432, 219, 0, 200)
    assert not {row.id for row in pool} & {row.id for row in rows["test"]}
    kinds = {"size", "coffeeDrink", "numberOfShots", "roast", "milkAmount", "sugarAmount"}
    assert labels(rows["train"]) == ({"orderDrink"}, kinds)
    assert sum(row.duration_s for row in [*pool, *rows["test"]]) / 60 == pytest.approx(59.65, abs=0.1)
    other = corpus("barista", split_seed=1)
    assert {row.id for row in other["test"]} != {row.id for row in rows["test"]}


def test_barista_budgets_are_nested_and_two_percent_is_four_recordings():
    if not (DATA / "barista").is_dir():
        pytest.skip("barista is not there: real data do not come with the project")
    drawn = {}
    for share in (0.02, 0.05, 0.1, 1.0):
        section = {"corpus": "barista", "root": DATA / "barista", "speech_share": share}
        drawn[share] = {row.id for row in load_pools(DataSection.model_validate(section)).speech}
    assert [len(ids) for ids in drawn.values()] == [4, 11, 22, 219]
    assert drawn[0.02] < drawn[0.05] < drawn[0.1] < drawn[1.0]


def test_fsdd_has_2000_recordings_of_four_speakers():
    rows = corpus("fsdd", pool_size=None, test_size=None)
    pool = [row for row in rows["train"] if row.audio is not None]
    assert len(pool) + len(rows["test"]) == 2000
    assert {row.speaker for row in rows["test"]} == {"lucas", "nicolas"}
    assert len({row.speaker for row in pool}) == 2
    assert not {row.speaker for row in pool} & {"lucas", "nicolas"}
    for part in (pool, rows["test"]):
        assert labels(part)[0] == {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}


def test_fsdd_draws_evenly_over_the_digits():
    rows = corpus("fsdd")
    for part in ([row for row in rows["train"] if row.audio], rows["test"]):
        counts = [sum(row.frame.intent == digit for row in part) for digit in ("zero", "four", "nine")]
        assert (len(part), counts) == (200, [20, 20, 20])


def test_slurp_has_2974_test_rows_whose_intent_is_not_always_scenario_and_action():
    rows = corpus("slurp", train="devel.jsonl", dev=None)
    assert (len(rows["train"]), len(rows["test"])) == (2033, 2974)
    row = next(row for row in rows["train"] if row.id == "13804")
    assert (row.frame.intent, row.meta["scenario"], row.meta["action"]) == ("qa_currency", "qa", "currency")
    assert [(slot.type, slot.value) for slot in row.frame.slots] == [
        ("currency_name", "american dollar"),
        ("currency_name", "japanese yen"),
    ]
    differing = sum(row.frame.intent != f"{row.meta['scenario']}_{row.meta['action']}" for row in rows["test"])
    assert differing > 0


def test_french_massive_is_read_in_the_same_layout():
    rows = corpus("slurp", "massive_fr", train="test.jsonl", dev=None, language="fr", test_size=300)
    assert (len(rows["train"]), len(rows["test"])) == (2674, 300)
    assert {row.language for row in [*rows["train"], *rows["test"]]} == {"fr"}
    assert not {row.id for row in rows["train"]} & {row.id for row in rows["test"]}
