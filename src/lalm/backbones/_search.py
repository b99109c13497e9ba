"""Searching for answers, one token at a time: greedy, and beam search as `transformers` does it.

Both go on from the first logits of each row: whatever stands before the answer (prompt and recording) is read once a row,
where `transformers` reads it once a beam. Rows leave the batch when their answer is found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lalm.backbones._grammar import Obeying

Advance = Callable[[Tensor, Tensor], Tensor]  # rows to go on with [kept], their next tokens [kept] -> logits [kept, V]
Answer = tuple[int, ...]
NEVER = -1e9  # of transformers: the score of a beam that is not to be


@dataclass(frozen=True)
class Limits:
    """What ends an answer: one of the tokens `ends`, but not before `min_new_tokens`, or `max_new_tokens`."""

    ends: Sequence[int]
    max_new_tokens: int
    min_new_tokens: int = 0
    obeying: Obeying | None = None

    def allowed(self, answers: Sequence[Answer], scores: Tensor) -> Tensor:
        """Scores [B, V] with -inf where a token may not follow the answer so far; all answers are of one length."""
        if len(answers[0]) < self.min_new_tokens:
            scores = scores.index_fill(1, torch.tensor(list(self.ends), device=scores.device), -torch.inf)
        return scores if self.obeying is None else self.obeying.allowed(answers, scores)


def search(logits: Tensor, advance: Advance, limits: Limits, num_beams: int) -> list[Answer]:
    """Greedy, or beam search with several beams."""
    return greedy(logits, advance, limits) if num_beams == 1 else beam_search(logits, advance, limits, num_beams)


def greedy(logits: Tensor, advance: Advance, limits: Limits) -> list[Answer]:
    """The likeliest token each time; `logits` [B, V] are of the rows' first tokens. Answers are without their end."""
    ends = torch.tensor(list(limits.ends), device=logits.device)
    answers: list[Answer] = [()] * len(logits)
    alive = list(range(len(logits)))
    for step in range(limits.max_new_tokens):
        tokens = limits.allowed([answers[row] for row in alive], logits).argmax(dim=-1)
        going = (tokens[:, None] != ends).all(dim=-1)
        kept = going.nonzero()[:, 0]
        alive = [alive[position] for position in kept.tolist()]
        tokens = tokens[kept]
        for row, token in zip(alive, tokens.tolist(), strict=True):
            answers[row] = (*answers[row], token)
        if not alive or step == limits.max_new_tokens - 1:
            break
        logits = advance(kept, tokens)
    return answers


@dataclass
class _Row:
    """The beams of one row: answers so far, and the best that have ended, as (score, answer)."""

    running: list[Answer]
    ended: list[tuple[float, Answer]] = field(default_factory=list)

    def end(self, score: float, answer: Answer, num_beams: int) -> None:
        self.ended.append((score, answer))
        self.ended = sorted(self.ended, key=lambda one: -one[0])[:num_beams]

    def may_improve(self, best: float, num_beams: int) -> bool:
        """Whether a running beam with a mean log-probability `best` would be among the best: their own guess of it."""
        return best > (self.ended[-1][0] if len(self.ended) == num_beams else NEVER)


def beam_search(logits: Tensor, advance: Advance, limits: Limits, num_beams: int) -> list[Answer]:
    """The answers [B] of the best mean log-probability a token, their end included, among `num_beams` beams a row.

    As `transformers` with `length_penalty` 1 and `early_stopping` False: `logits` [B, V] are of the rows' first tokens.
    """
    rows = [_Row([()] * num_beams) for _ in range(len(logits))]
    alive = list(rows)
    scores = torch.full((len(rows), num_beams), NEVER, device=logits.device)
    scores[:, 0] = 0.0  # all beams begin alike: the first alone counts
    num_candidates = max(2, 1 + len(limits.ends)) * num_beams
    for step in range(limits.max_new_tokens):
        width = logits.shape[-1]
        answers = [answer for row in alive for answer in (row.running if step else row.running[:1])]
        follow = limits.allowed(answers, logits.float().log_softmax(dim=-1))
        follow = follow.view(len(alive), -1, width) + scores[:, :, None]
        best, places = follow.flatten(1).topk(num_candidates)
        parents, tokens = places // width, places % width
        is_last = step == limits.max_new_tokens - 1
        kept, chosen, new_scores, going = [], [], [], []
        for number, row in enumerate(alive):
            before = row.running
            run: list[tuple[float, int, int]] = []
            for rank, (score, parent, token) in enumerate(
                zip(best[number].tolist(), parents[number].tolist(), tokens[number].tolist(), strict=True)
            ):
                ends = token in limits.ends
                if (ends or is_last) and rank < num_beams:
                    row.end(score / (step + 1), before[parent] if ends else (*before[parent], token), num_beams)
                if not ends and len(run) < num_beams:
                    run.append((score, parent, token))
            if is_last or not row.may_improve(run[0][0] / (step + 1), num_beams):
                continue
            row.running = [(*before[parent], token) for _, parent, token in run]
            going.append(row)
            kept += [number * num_beams + parent if step else number for _, parent, _ in run]
            chosen += [token for _, _, token in run]
            new_scores += [score for score, _, _ in run]
        alive = going
        if not alive:
            break
        scores = torch.tensor(new_scores, device=logits.device).view(len(alive), num_beams)
        logits = advance(torch.tensor(kept, device=logits.device), torch.tensor(chosen, device=logits.device))
    return [row.ended[0][1] if row.ended else row.running[0] for row in rows]
