"""Greedy and beam search against `generate` of transformers, on the same weights; what stands before an answer is read once."""

from __future__ import annotations

import pytest
import torch

from lalm.backbones import _decoding, qwen2_audio, smol
from lalm.backbones._search import Limits, beam_search, greedy, search
from lalm.backbones._tiny import tiny_llm
from lalm.records import Example

INSTRUCTION = "Return one line of JSON with the intent of the sentence."
ROWS = [Example(text, INSTRUCTION, "{}", text=text) for text in ("lights on", "play some jazz", "no")]


@pytest.mark.parametrize("num_beams", [1, 2, 4])
@pytest.mark.parametrize("ends", [[3], [3, 5]])
def test_the_search_finds_what_that_of_transformers_finds(ends, num_beams):
    """Twelve tokens, so that answers end soon; every step reads everything anew."""
    lengths = set()
    for seed in range(5):
        torch.manual_seed(seed)
        llm = tiny_llm(12)
        prompts = torch.randint(6, 12, (4, 4))
        state = {"ids": prompts}

        def advance(rows, tokens, state=state, llm=llm):
            state["ids"] = torch.cat([state["ids"][rows], tokens[:, None]], dim=1)
            return llm(state["ids"]).logits[:, -1]

        with torch.inference_mode():
            answers = search(llm(prompts).logits[:, -1], advance, Limits(ends, 9), num_beams)
            for prompt, answer in zip(prompts, answers, strict=True):
                made = llm.generate(
                    prompt[None],
                    attention_mask=torch.ones(1, 4),
                    num_beams=num_beams,
                    do_sample=False,
                    max_new_tokens=9,
                    eos_token_id=ends,
                    pad_token_id=ends[0],
                )[0, 4:].tolist()
                end = next((place for place, token in enumerate(made) if token in ends), len(made))
                assert list(answer) == made[:end]
        lengths |= set(map(len, answers))
    assert len(lengths) > 1


def by_transformers(model, rows, num_beams: int, max_new_tokens: int) -> list[str]:
    """Row by row through the language model's own `generate`."""
    answers = []
    for row in map(model.row, rows):
        ids = torch.tensor([[*row.before, *row.given[0], *row.after]])
        made = model.module.llm.generate(
            ids,
            num_beams=num_beams,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=model._end_of_turn,
            pad_token_id=model._end_of_turn,
            attention_mask=torch.ones_like(ids),
        )
        answers.append(model.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return answers


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("num_beams", [1, 2, 5])
def test_answers_are_those_of_transformers(shared, num_beams, monkeypatch):
    if not shared:
        monkeypatch.setattr(_decoding._stack, "supports", lambda llm: False)
    model = smol.make_tiny(0)
    answers = model.generate(ROWS, 12, num_beams)
    assert answers == by_transformers(model, ROWS, num_beams, 12)
    assert len(set(answers)) > 1


def test_what_stands_before_the_answer_is_read_once_a_row_and_not_once_a_beam():
    model = smol.make_tiny(0)
    read: list[tuple[int, int]] = []
    model.module.llm.model.layers[0].register_forward_pre_hook(
        lambda _, given: read.append((given[0].shape[0], given[0].shape[1]))
    )
    model.generate(ROWS, 3, num_beams=4)
    prefix, rows = read[0], read[1]
    assert prefix == (1, len(model.batch(ROWS).prefix))
    assert rows == (len(ROWS), max(map(model.num_tokens, ROWS)) - len(model.row(ROWS[0]).answer))
    assert set(read[2:]) <= {(4 * number, 1) for number in (1, 2, 3)}


def test_beam_search_finds_what_greedy_search_misses():
    """Two steps, three tokens, 2 ends: the likelier first token leads to the less likely whole."""
    table = {(): [0.55, 0.4, 0.05], (0,): [0.3, 0.3, 0.4], (1,): [0.02, 0.03, 0.95]}
    answers: list[tuple[int, ...]] = []

    def advance(rows, tokens):
        before = [answers[row] if answers else () for row in rows.tolist()]
        answers[:] = [(*one, token) for one, token in zip(before, tokens.tolist(), strict=True)]
        return torch.tensor([table.get(one, [0.3, 0.3, 0.4]) for one in answers]).log()

    first = torch.tensor([table[()]]).log()
    limits = Limits(ends=[2], max_new_tokens=2)
    assert greedy(first, advance, limits) == [(0,)]
    answers.clear()
    assert beam_search(first, advance, limits, num_beams=2) == [(1,)]


@pytest.mark.parametrize("num_beams", [1, 2])
def test_an_answer_does_not_end_before_it_may(num_beams):
    """The end is the likeliest token throughout."""

    def advance(rows, tokens):
        return torch.tensor([[0.2, 0.1, 0.7]]).log().expand(len(rows), -1)

    for number in (0, 2, 4):
        (answer,) = beam_search(advance([0], []), advance, Limits([2], 4, number), num_beams)
        assert len(answer) == number if num_beams == 1 else len(answer) >= number
        assert greedy(advance([0], []), advance, Limits([2], 4, number)) == [(0,) * number]


@pytest.mark.parametrize("make", [smol.make_tiny, qwen2_audio.make_tiny])
def test_models_write_as_many_tokens_as_they_are_told(make, monkeypatch):
    model, found = make(0), []
    decode = model.tokenizer.decode
    monkeypatch.setattr(model.tokenizer, "decode", lambda ids, **options: found.append(ids) or decode(ids, **options))
    many = lambda lists, **options: [model.tokenizer.decode(ids, **options) for ids in lists]  # noqa: E731
    monkeypatch.setattr(model.tokenizer, "batch_decode", many)
    model.generate(ROWS, 40, min_new_tokens=40)
    assert [len(ids) for ids in found] == [40] * len(ROWS)
