"""Few shots that hold every label, then in proportion; against a cover found by trying all subsets."""

from __future__ import annotations

import itertools
from random import Random

from lalm import plugins
from lalm.records import Frame, Known, Slot, Utterance
from lalm.select import label_cover


def row(name: str, intent: str, *slots: str) -> Utterance:
    return Utterance(name, text=name, frame=Frame(intent, tuple(Slot(kind, "x") for kind in slots)))


def labels(rows):
    rows = list(rows)
    return {("intent", r.frame.intent) for r in rows} | {("slot", s.type) for r in rows for s in r.frame.slots}


def many(number: int, seed: int) -> list[Utterance]:
    """Mostly one intent and slot; a few rows have rare ones."""
    rng = Random(seed)
    rows = [row(f"c{i}", "often", *(["time"] if i % 2 else [])) for i in range(number)]
    rows += [row(f"r{i}", f"rare{i}", f"slot{i}", f"slot{(i + 1) % 8}") for i in range(8)]
    rng.shuffle(rows)
    return rows


def test_the_beginning_holds_every_label_in_as_few_rows_as_greedy_can():
    rows = many(200, 0)
    chosen = label_cover.choose(rows, 40, label_cover.Config(seed=1))
    by_id = {r.id: r for r in rows}
    assert len(set(chosen)) == 40
    assert labels(by_id[name] for name in chosen[:9]) == labels(
        rows
    )  # eight rare intents, and the common one with its slot
    rest = [by_id[name] for name in chosen[9:]]
    assert {r.frame.intent for r in rest} <= {"often", *(f"rare{i}" for i in range(8))}
    assert sum(r.frame.intent == "often" for r in rest) > 25, "in proportion, once all is covered"


def test_small_sets_are_covered_in_at_most_one_row_more_than_the_best_subset():
    for seed in range(5):
        rng = Random(seed)
        rows = [row(f"{i}", f"i{rng.randint(0, 3)}", *{f"s{rng.randint(0, 3)}" for _ in range(2)}) for i in range(9)]
        best = next(n for n in range(1, 10) if any(labels(c) == labels(rows) for c in itertools.combinations(rows, n)))
        chosen = label_cover.choose(rows, 9, label_cover.Config(seed=seed))
        by_id = {r.id: r for r in rows}
        assert labels(by_id[name] for name in chosen[: best + 1]) == labels(rows)


def test_it_is_nested_seeded_and_knows_what_is_recorded():
    rows = many(60, 1)
    cfg = label_cover.Config(seed=3)
    whole = label_cover.choose(rows, len(rows), cfg)
    assert sorted(whole) == sorted(r.id for r in rows)
    assert all(label_cover.choose(list(reversed(rows)), n, cfg) == whole[:n] for n in (0, 5, 12, 30))
    assert label_cover.choose(rows, 20, label_cover.Config(seed=4)) != whole[:20]
    known = Known(recorded=tuple(r for r in rows if r.id.startswith("r")))
    left = [r for r in rows if r.id.startswith("c")]
    first = label_cover.choose(left, 1, cfg, known)
    assert {r.id: r for r in left}[first[0]].frame.slots, "the one with a slot that is not there yet"
    assert plugins.load("select", "label_cover") is label_cover
