"""What stands around a row's input, in the language model's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lalm.errors import ModelError
from lalm.records import Role, Turn

_INPUT_MARK = "\u2063lalm-input\u2063"


def around(tokenizer: Any, instruction: str) -> tuple[str, str]:
    """The text before and after the input. A template without a place for a system's words has them before the user's.

    Raises ModelError for a tokenizer without a template, or one that changes the user's words.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            "The language model's tokenizer has no chat template, so it was not trained to follow an instruction. "
            "Choose an instruction-tuned one."
        )
    text = _render(tokenizer, [("system", instruction), ("user", _INPUT_MARK)])
    if text is None or instruction.strip() not in text:
        text = _render(tokenizer, [("user", f"{instruction}\n\n{_INPUT_MARK}")]) or ""
    before, mark, after = text.partition(_INPUT_MARK)
    if not mark:
        raise ModelError("The language model's chat template does not pass the user's words through unchanged.")
    return before, after


def _render(tokenizer: Any, turns: list[tuple[str, str]]) -> str | None:
    """The turns as text; None if the template refuses them."""
    from jinja2 import TemplateError

    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except TemplateError:
        return None


_TAGS: dict[Role, str] = {"narrator": "Narrator: ", "user": "User: ", "assistant": "Assistant: "}


def tag_of(turn: Turn) -> str:
    """What a turn's line begins with, when a dialogue is given as one input."""
    return _TAGS[turn.role]


def end_of_turn(tokenizer: Any) -> int:
    """The token that ends an answer. Raises ModelError if there is none."""
    if tokenizer.eos_token_id is None:
        raise ModelError("The language model's tokenizer has no end-of-sequence token; answers could not end.")
    return int(tokenizer.eos_token_id)


def ids(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a piece of a row; pieces are cut where no word goes on, so that they do not depend on one another."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def common_beginning(lists: Sequence[list[int]]) -> list[int]:
    """The tokens that all lists begin with."""
    first, last = min(lists), max(lists)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return list(first[:length])
