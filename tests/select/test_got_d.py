"""Optimal transport against linear programming, and the choice by its gradient: the paper's own toy, targets, samples."""

from __future__ import annotations

import json
from random import Random

import numpy as np
import pytest
from scipy.optimize import linprog

from lalm.errors import DataError
from lalm.records import Frame, Known, Utterance
from lalm.select import got_d
from lalm.select._transport import calibrated, conjugate, potentials

DRINKS = ("latte", "mocha", "espresso", "americano", "cappuccino")
SIZES = ("small", "medium", "large")
LIGHTS = ("kitchen", "garage", "attic", "cellar", "bedroom")


def coffee(number, rng):
    words = f"can I have a {rng.choice(SIZES)} {rng.choice(DRINKS)} with {rng.choice(['milk', 'sugar', 'cream'])}"
    return Utterance(f"coffee-{number}", text=words, frame=Frame("order"))


def light(number, rng):
    words = f"{rng.choice(['dim', 'brighten'])} every lamp of our {rng.choice(LIGHTS)} {rng.choice(['now', 'later'])}"
    return Utterance(f"light-{number}", text=words, frame=Frame("lamp"))


def rows_of(num_coffee, num_light, seed=0, start=0):
    rng = Random(seed)
    made = [coffee(start + i, rng) for i in range(num_coffee)] + [light(start + i, rng) for i in range(num_light)]
    rng.shuffle(made)
    return made


def plane(seed, n, m):
    """Costs between points of a plane [n, m], and masses."""
    rng = np.random.default_rng(seed)
    x, y = rng.random((n, 2)), rng.random((m, 2))
    return ((x[:, None] - y) ** 2).sum(-1), rng.dirichlet(np.full(n, 5.0)), rng.dirichlet(np.full(m, 5.0))


def exact(cost, a, b):
    """Unregularised transport cost by linear programming."""
    n, m = cost.shape
    rows = [np.outer(np.eye(n)[i], np.ones(m)).ravel() for i in range(n)]
    rows += [np.outer(np.ones(n), np.eye(m)[j]).ravel() for j in range(m)]
    return linprog(cost.ravel(), A_eq=np.array(rows), b_eq=[*a, *b]).fun


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradients_are_the_finite_differences_of_the_transport_cost(seed):
    cost, a, b = plane(seed, 7, 5)
    f, _ = potentials(cost, a, b, epsilon=5e-4, tolerance=1e-9, max_rounds=300)
    step, differences = 1e-4, []
    for i in range(7):
        move = np.full(7, -1 / 6)
        move[i] = 1
        differences.append((exact(cost, a + step * move, b) - exact(cost, a - step * move, b)) / (2 * step))
    assert np.abs(calibrated(f) - differences).max() < 1e-2 * np.abs(differences).max()


def test_the_plan_ships_the_masses_whatever_the_regularisation():
    cost, a, b = plane(3, 40, 30)
    for epsilon in (1.0, 1e-2, 1e-4):
        f, g = potentials(cost, a, b, epsilon, tolerance=1e-6, max_rounds=500)
        plan = np.exp((f[:, None] + g - cost) / epsilon) * a[:, None] * b
        assert np.isfinite(plan).all()
        assert np.abs(plan.sum(axis=1) - a).sum() < 1e-5
        assert np.abs(plan.sum(axis=0) - b).sum() < 1e-3
        np.testing.assert_allclose(conjugate(cost[:5], g, b, epsilon), f[:5], atol=1e-12)


def test_of_99_to_1_candidates_and_a_target_of_halves_the_rare_kind_is_chosen():
    """The paper's toy; matching the target's distribution would choose half of each."""
    candidates = rows_of(990, 10)
    known = Known(text=tuple(rows_of(100, 100, seed=1, start=5000)))
    chosen = got_d.choose(candidates, 10, got_d.Config(), known)
    assert all(name.startswith("light") for name in chosen)
    assert got_d.reasons(candidates, chosen, got_d.Config(), known)[0].startswith(
        "the target has more like it (gradient -"
    )


def test_what_is_there_in_plenty_is_not_chosen_though_it_is_like_the_target():
    candidates = rows_of(40, 200)
    chosen = got_d.choose(candidates, 30, got_d.Config(), Known(text=tuple(rows_of(60, 60, seed=1, start=5000))))
    assert all(name.startswith("coffee") for name in chosen)


def test_a_manifest_can_be_the_target(tmp_path):
    file = tmp_path / "target.jsonl"
    file.write_text(
        "".join(json.dumps({"id": r.id, "text": r.text, "intent": r.frame.intent}) + "\n" for r in rows_of(0, 40))
    )
    candidates = rows_of(50, 50, seed=2, start=900)
    cfg = got_d.Config(target=file)
    assert all(name.startswith("light") for name in got_d.choose(candidates, 40, cfg, Known(text=tuple(candidates))))
    file.write_text("")
    with pytest.raises(DataError, match="no row has a sentence or slots"):
        got_d.choose(candidates, 40, cfg)


def test_what_is_recorded_is_what_the_model_has_heard():
    candidates = rows_of(50, 50)
    recorded = tuple(rows_of(20, 0, seed=3, start=700))
    chosen = got_d.choose(candidates, 30, got_d.Config(), Known(recorded, (*candidates, *recorded)))
    assert all(name.startswith("light") for name in chosen)


def test_a_target_of_the_same_sentences_leaves_it_to_the_seed():
    candidates = rows_of(30, 30)
    draws = [got_d.choose(candidates, 60, got_d.Config(seed=seed)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert got_d.reasons(candidates, draws[0][:1], got_d.Config())[0].startswith(
        "drawn: target and candidates are the same"
    )


def test_beyond_its_size_the_transport_is_solved_on_a_sample():
    candidates = rows_of(400, 40)
    known = Known(text=tuple(rows_of(100, 100, seed=1, start=5000)))
    chosen = got_d.choose(candidates, 40, got_d.Config(max_rows=60), known)
    assert all(name.startswith("light") for name in chosen)


def test_few_rows_are_enough():
    candidates = rows_of(1, 1)
    assert len(got_d.choose(candidates, 2, got_d.Config(), Known(text=(candidates[0],)))) == 2
