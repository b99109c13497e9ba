"""A conversation as a row, and a row as a conversation: what `messages_jsonl` and `openai` have in common."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from lalm.data.labels import answer_text, read_answer
from lalm.errors import DataError
from lalm.records import UNKNOWN_FIELDS, Utterance

AUDIO = "<audio>"
# text columns that stand beside the messages, so that an import gives the same rows; other tools pass over them
COLUMNS = ("id", "text", "language", "speaker", "split", "source")
_ROLES = ("system", "user", "assistant", "tool")
_SHAREGPT = {"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "tool"}


def conversation(row: Utterance, instruction: str) -> list[dict[str, str]]:
    """The messages that teach a row: instruction and input, then the answer; `<audio>` stands for the recording.

    Rows that are conversations already (`messages`) or questions (`question`, `answers`) keep their own words.
    """
    extra = row.meta.get(UNKNOWN_FIELDS, {})
    if "messages" in extra:
        return _messages(extra["messages"])
    if row.question and row.answers:
        asked = "\n".join(part for part in (row.context, row.question) if part)
        return _pair(row, asked, row.answers[0])
    asked = instruction if row.audio is not None else f"{instruction}\n{row.text}"
    return _pair(row, asked, answer_text(row.frame))


def _messages(value: Any) -> list[dict[str, str]]:
    """Raises DataError."""
    try:
        messages = checked_messages(value)
    except ValueError as error:
        raise DataError(f"{error}.") from None
    for index, message in enumerate(messages):
        if not isinstance(message["content"], str):
            raise DataError(f"field 'messages[{index}].content' is {message['content']!r:.60}, a string is needed.")
    return messages


def _pair(row: Utterance, asked: str, answer: str) -> list[dict[str, str]]:
    sound = AUDIO if row.audio is not None else ""
    return [{"role": "user", "content": sound + asked}, {"role": "assistant", "content": answer}]


def columns(row: Utterance) -> dict[str, str | None]:
    """The text columns of a row."""
    return {
        "id": row.id,
        "text": row.text,
        "language": row.language,
        "speaker": row.speaker,
        "split": row.split,
        "source": row.source,
    }


def fields(messages: list[dict[str, str]], value: Mapping[str, Any], instruction: str) -> dict[str, Any]:
    """The manifest's fields of a conversation (all but `audio`).

    An answer that is a frame becomes intent and slots, one question and one answer become `question` and `answers`, and
    everything else is kept as `messages`. Raises ValueError with what is wrong.
    """
    given = {name: value[name] for name in COLUMNS if value.get(name) is not None}
    if isinstance(given.get("id"), int):
        given["id"] = str(given["id"])
    asked = [one["content"] for one in messages if one["role"] == "user"]
    answers = [one["content"] for one in messages if one["role"] == "assistant"]
    if not asked:
        raise ValueError("holds no message of the role 'user'")
    frame = read_answer(answers[0]) if len(answers) == 1 and len(asked) == 1 else None
    words = asked[0].replace(AUDIO, "").strip()
    if frame is None:
        plain = len(messages) == 2 and len(asked) == len(answers) == 1 and bool(words and answers[0].strip())
        labels = {"question": words, "answers": answers} if plain else {"messages": messages}
        return {"text": "\n".join(asked).replace(AUDIO, "").strip() or None, **labels, **given}
    said = words.removeprefix(instruction).strip() if AUDIO not in asked[0] else None
    return {"text": said or None, **frame.to_json(), **given}


def checked_messages(value: Any) -> list[dict[str, Any]]:
    """Messages with roles that are known; ShareGPT's `from`/`value` and `human`/`gpt` too. Raises ValueError."""
    if not isinstance(value, list) or not value:
        raise ValueError("field 'messages' is no list of messages")
    found = []
    for index, one in enumerate(value):
        if not isinstance(one, dict):
            raise ValueError(f"field 'messages[{index}]' is no object")
        role, content = one.get("role", one.get("from")), one.get("content", one.get("value"))
        role = _SHAREGPT.get(str(role), role)
        if role not in _ROLES:
            raise ValueError(f"field 'messages[{index}].role' is {role!r}; allowed: {', '.join(_ROLES)}")
        found.append({"role": role, "content": content})
    return found


def data_url(text: str) -> bytes | None:
    """The bytes of a `data:` address in base 64; None if the text is another kind of address. Raises ValueError."""
    if not text.startswith("data:"):
        return None
    head, _, body = text.partition(",")
    if not head.endswith(";base64"):
        raise ValueError("a data: address must be in base64")
    return from_base64(body)


def from_base64(text: Any) -> bytes:
    """The bytes. Raises ValueError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise ValueError("the sound inside is not base64") from None


def no_address(text: str) -> None:
    """Raises ValueError for an address on the network: nothing is fetched."""
    if "://" in text and not text.startswith("file://"):
        raise ValueError(f"{text[:60]!r} is an address; files are read from this machine only, so fetch it first")
