"""The loss on the development set: a mean over answer tokens, as the training loss is, of the recipe's own task alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lalm.config import parse_recipe
from lalm.data.pools import load_pools
from lalm.errors import UserError
from lalm.evaluate.understander import Understander
from lalm.study.single import dev_evaluation
from lalm.train.setup import load_model, task_examples


def recipe(corpus, **sections):
    values = {
        "data": {"corpus": {"name": "barista", "test_size": 2}, "root": str(corpus), "speech_share": 1.0},
        "backbone": {"name": "smol", "tiny": True, "connector": "mlp"},
        "scheme": {"name": "multitask", "tasks": ["intent_only"]},
        "train": {"per_device_train_batch_size": 3, "eval_steps": 5},
        "evaluate": {"metrics": ["exact_match"], "max_new_tokens": 2},
        **sections,
    }
    return parse_recipe(values, corpus)


def test_it_is_the_mean_over_the_answer_tokens_of_all_rows(corpus):
    one = recipe(corpus)
    pools = load_pools(one.data)
    pools = replace(pools, dev=[*pools.text[:5], *pools.test])
    model = load_model(one)
    evaluate, _ = dev_evaluation(one, model, pools)
    values = evaluate()
    with torch.no_grad():
        sums = [model.loss(model.batch([row])) for row in task_examples(one, pools.dev)]
    by_hand = sum(float(nll) for nll, _ in sums) / sum(int(tokens) for _, tokens in sums)
    assert len(sums) == 7
    assert values["loss"] == pytest.approx(by_hand, rel=1e-4)
    assert set(values) == {"exact_match", "loss"}


def test_a_recording_is_understood_by_tasks_over_labels_and_by_no_other(corpus):
    one = recipe(corpus, task="intent_only", scheme="direct_mixing")
    model = load_model(one)
    audio = load_pools(one.data).test[0].audio
    assert Understander(one, model)(audio) is not None
    with pytest.raises(UserError, match=r"The task transcribe of this run finds no intent and slots in a recording"):
        Understander(recipe(corpus, task="transcribe", scheme="direct_mixing"), model)(audio)
