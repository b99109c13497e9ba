"""Dialogues that go on as the model leads them: it may ask back, a simulated user replies, it answers then.

After the idea of ASK-QA's dynamic evaluation (arXiv 2412.15995), whose details are not published. What we chose: the model is
given a row's turns up to the last request, without being told whether that is ambiguous. If it asks back (its answer ends
with a question mark) and the row is ambiguous, the user replies from the row's annotation, whatever words the question has
(a language model may word what the annotation means, `write.user`); each annotated reply is tried, so that no draw decides, and a row's figures are the mean over them. The model's question and the
reply become turns, the reply as a recording if it has one, and the model goes on. Asked again, the user says the same once
more. Asked about a clear request, the user has nothing to add, and the dialogue ends without an answer. Earlier turns are those
of the row, not what the model would have said there.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lalm.config import Recipe, load_recipe
from lalm.contracts import Model
from lalm.data import audio, noise
from lalm.data.dialogue import all_recordings
from lalm.errors import DataError, UserError, many
from lalm.evaluate import stats, trajectories
from lalm.evaluate.parse import asks_back
from lalm.evaluate.predict import load_run, predict_rows, rows_to_answer
from lalm.evaluate.robustness import about, parse_snr, part, with_sound, write_noisy
from lalm.records import Example, Turn, Utterance
from lalm.rundir import RunDir, write_json, write_jsonl
from lalm.write import user
from lalm.write.local_model import LocalModel
from lalm.write.texts import Write

MAX_TURNS = 3


@dataclass(frozen=True)
class _Dialogue:
    """A row with what was said so far; `reply` is the number of the user's reply, None until the model asked."""

    row: Utterance
    reply: int | None = None
    turns: tuple[dict[str, Any], ...] = ()
    open: bool = True


def converse_run(
    run: Path,
    manifest: Path | None = None,
    corpus: str | None = None,
    root: Path | None = None,
    split: str | None = None,
    max_turns: int = MAX_TURNS,
    noise_folder: Path | None = None,
    snr_db: str | None = None,
    seed: int = 0,
    user_model: str | None = None,
) -> Path:
    """Let a run talk about a set; the file of its figures, `scores/<set>-dialogue.json`.

    With `user_model` a local language model words the user's replies (`write.user`).
    Trajectories go to `dialogues/<set>.jsonl`. With a folder of noise the rows with recordings are gone through clean and at
    each ratio, into `dialogues/<set>-snr<dB>.jsonl`, and rows without are left out. Raises UserError, before the model is
    loaded, for a run that is not finished, a set without requests, and recordings or noise that cannot be used.
    """
    if max_turns < 1:
        raise UserError(f"--max-turns {max_turns}: the model says something at least once; a number from 1 is needed.")
    if seed < 0:
        raise UserError(f"--seed {seed}: a whole number from 0 is needed.")
    folder = RunDir(run).require()
    recipe = load_recipe(folder.recipe)
    levels = parse_snr(snr_db) if noise_folder is not None and snr_db is not None else ()
    rows, name = rows_to_answer(recipe, manifest, corpus, root, split)
    asked = _requests(recipe, rows, name)
    sources = noise.read_noise(noise_folder) if noise_folder is not None else []
    spoken = with_sound(name, asked) if noise_folder is not None else asked
    audio.check(dict.fromkeys(path for row in spoken for path in all_recordings(row)))
    write = LocalModel(user_model) if user_model is not None else None
    _, model = load_run(run)
    clean = converse(model, recipe, spoken, max_turns, "clean" if levels else name, write=write)
    write_jsonl(folder.dialogues(name), clean)
    summary: dict[str, Any] = {
        "kind": "dialogue",
        "set": name,
        "num": len(spoken),
        "num_ambiguous": sum(row.clarification is not None for row in spoken),
        "num_passages": len({_passage(row) for row in spoken}),
        "num_left_out": len(rows) - len(spoken),
        "max_turns": max_turns,
        **({} if user_model is None else {"user": {"model": user_model, **_replies_worded(clean)}}),
        **trajectories.score(clean, recipe.evaluate.num_resamples),
    }
    found = []
    for level in levels:
        with tempfile.TemporaryDirectory(prefix="lalm-noise-") as copies:
            noisy_rows = write_noisy(spoken, Path(copies), sources, level, seed)
            noisy = converse(model, recipe, noisy_rows, max_turns, f"{level:g} dB", spoken, write)
        write_jsonl(folder.dialogues(part(name, level)), ({**one, "snr_db": level} for one in noisy))
        metrics = trajectories.score(noisy, recipe.evaluate.num_resamples)["metrics"]
        differ = trajectories.differences(noisy, clean)
        both = {key: {**value, "difference_to_clean": differ[key]} for key, value in metrics.items()}
        found.append({"snr_db": level, "metrics": both})
    if noise_folder is not None:
        summary |= {"noise": about(noise_folder, noise.noise_files(noise_folder), seed), "levels": found}
    write_json(folder.dialogue_scores(name), summary)
    return folder.dialogue_scores(name)


def converse(
    model: Model,
    recipe: Recipe,
    rows: Sequence[Utterance],
    max_turns: int,
    what: str = "",
    heard_as: Sequence[Utterance] | None = None,
    write: Write | None = None,
) -> list[dict[str, Any]]:
    """The trajectories (docs/formats.md) of rows, in their order; those of an ambiguous row one after another.

    All dialogues are answered turn by turn together, so that rows of like length are generated at once. `heard_as` are the
    rows whose recordings the trajectories name, where those of `rows` will not last. `write` is a language model that words the
    user's replies (none: the annotated ones).
    """
    known = {row.id: row for row in heard_as or rows}
    dialogues = [_Dialogue(row) for row in rows]
    for number in range(1, max_turns + 1):
        waiting = [index for index, one in enumerate(dialogues) if one.open]
        if not waiting:
            break
        print(f"[converse] {what}, turn {number}: {many(len(waiting), 'dialogue')}", file=sys.stderr, flush=True)
        examples = _examples(recipe, [_so_far(dialogues[index]) for index in waiting])
        answers = dict(zip(waiting, predict_rows(model, examples, recipe.evaluate), strict=True))
        dialogues = [
            after
            for index, one in enumerate(dialogues)
            for after in ([one] if index not in answers else _go_on(one, answers[index], number < max_turns))
        ]
        if write is not None:
            dialogues = _worded(dialogues, write)
    return [found for one in dialogues for found in _as_json(one, known[one.row.id])]


def _go_on(one: _Dialogue, answer: dict[str, Any], more: bool) -> list[_Dialogue]:
    """The dialogue after what the model said; after its first question to an ambiguous request one for each reply."""
    asks = asks_back(answer["raw"])
    said = {"role": "assistant", "text": answer["raw"].strip(), "asks": asks, "latency_s": answer["latency_s"]}
    one = replace(one, turns=(*one.turns, said))
    clarification = one.row.clarification
    if not (asks and more and clarification is not None):
        return [replace(one, open=False)]
    replies = range(len(clarification.replies)) if one.reply is None else [one.reply]
    return [
        replace(one, reply=number, turns=(*one.turns, {"role": "user", "said": clarification.replies[number][0]}))
        for number in replies
    ]


def _worded(dialogues: Sequence[_Dialogue], write: Write) -> list[_Dialogue]:
    """The dialogues with the replies that were just given in the words of a language model."""
    result = list(dialogues)
    new = [number for number, one in enumerate(result) if one.open and "by" not in one.turns[-1]]
    asked = [
        user.Question(result[number].row, result[number].turns[-2]["text"], result[number].reply or 0) for number in new
    ]
    for number, (said, own) in zip(new, user.replies(asked, write) if asked else [], strict=True):
        turns = result[number].turns
        worded = {"role": "user", "said": said, "by": "model" if own else "annotation"}
        result[number] = replace(result[number], turns=(*turns[:-1], worded))
    return result


def _replies_worded(trajectories: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many replies the language model worded, and how many were the annotation's."""
    by = [turn.get("by") for one in trajectories for turn in one["turns"] if turn["role"] == "user"]
    return {"num_worded": by.count("model"), "num_annotated": by.count("annotation")}


def _so_far(one: _Dialogue) -> Utterance:
    """What the model is given next, a row that does not tell whether its request is ambiguous.

    The answers are there because tasks make nothing of a question without any; nobody reads them.
    """
    row = one.row
    turns = row.turns
    if one.turns and row.question:
        turns = (*turns, Turn("user", row.question))
    turns += tuple(
        Turn("assistant", said["text"]) if said["role"] == "assistant" else said["said"] for said in one.turns
    )
    answers = row.answers or ("-",)
    name = row.id if one.reply is None else f"{row.id}/reply-{one.reply}"
    question = None if one.turns else row.question
    return replace(row, id=name, turns=turns, question=question, answers=answers, clarification=None)


def _examples(recipe: Recipe, rows: Sequence[Utterance]) -> list[Example]:
    """What the recipe's task makes of each row. Raises UserError if that is not one example a row."""
    from lalm.train.setup import task_examples

    made = {example.id: example for example in task_examples(recipe, rows)}
    for row in rows:
        if row.id not in made:
            raise UserError(
                f"The task {recipe.task.name} of this run asks nothing about row '{row.id}', so there is no dialogue to have. "
                "Runs of the tasks answer and response_generation can be talked to."
            )
    return [made[row.id] for row in rows]


def _requests(recipe: Recipe, rows: Iterable[Utterance], name: str) -> list[Utterance]:
    """The rows that ask something. Raises UserError if none does, or if the run cannot answer in words."""
    if recipe.evaluate.constrained:
        raise UserError(
            "The answers of this run obey a grammar of intents and slots (evaluate.constrained); it has no words to talk with."
        )
    asked = [row for row in rows if row.turns and (row.answers or row.clarification)]
    if not asked:
        raise UserError(
            f"The set '{name}' holds no rows with 'turns' and 'answers' or a 'clarification', so no dialogues."
        )
    problems = [
        f"row '{row.id}': the reply {number} has no answers, so nothing is right after it."
        for row in asked
        for number, (_, answers) in enumerate(row.clarification.replies if row.clarification else ())
        if not answers
    ]
    if problems:
        raise DataError(f"{many(len(problems), 'reply')} cannot be used.", problems)
    _examples(recipe, [_so_far(_Dialogue(row)) for row in asked])
    return asked


def _passage(row: Utterance) -> str:
    """What dialogues are about, where rows say it; else each is by itself."""
    return str(row.meta.get("passage", row.id))


def _as_json(one: _Dialogue, known: Utterance) -> list[dict[str, Any]]:
    """The trajectory of a dialogue; of an ambiguous one that was never replied to one for each reply there could have been."""
    row: dict[str, Any] = {
        "id": known.id,
        "passage": _passage(known),
        "ambiguous": known.clarification is not None,
        "request": known.question or known.turns[-1].text,
    }
    if known.clarification is None:
        return [{**row, "reply": None, "turns": list(one.turns), "answers": list(known.answers)}]
    row["clarification"] = known.clarification.question
    found = []
    for number, (reply, answers) in enumerate(known.clarification.replies):
        if one.reply in (None, number):
            turns = [_user_turn(said, reply) if said["role"] == "user" else said for said in one.turns]
            found.append({**row, "reply": number, "turns": turns, "answers": list(answers)})
    return found


def _user_turn(said: dict[str, Any], reply: Turn) -> dict[str, Any]:
    """A reply as it is kept: the set's own (the one that was heard may be a noisy copy, and gone), or the model's words."""
    worded = said.get("by") == "model"
    heard = None if worded or reply.audio is None else str(reply.audio.absolute())
    text = said["said"].text if worded else reply.text
    return {"role": "user", "text": text, "audio": heard, **({"by": said["by"]} if "by" in said else {})}


def as_text(summary: dict[str, Any]) -> str:
    """The figures for a person: a line each, and one a level of noise below it."""
    about_set = f"{many(summary['num'], 'dialogue')}, {summary['num_ambiguous']} ambiguous"
    lines = [f"{about_set}, at most {summary['max_turns']} turns of the model"]
    if "user" in summary:
        said = summary["user"]
        words = many(said["num_worded"], "reply")
        lines.append(f"{words} in the words of {said['model']}, {said['num_annotated']} in the annotation's")
    for name, score in summary["metrics"].items():
        lines.append(f"{name:<24} {_shown(score)}")
        for level in summary.get("levels", ()):
            lines.append(f"  {level['snr_db']:g} dB".ljust(25) + _shown(level["metrics"][name]))
    if summary["num_left_out"]:
        lines.append(f"{many(summary['num_left_out'], 'row')} left out: no request, or under noise no recording")
    return "\n".join(lines)


def _shown(score: dict[str, Any]) -> str:
    return "none" if score["value"] is None else f"{stats.in_words(score, 4)}  n = {score['n']}"
