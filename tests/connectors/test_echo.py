"""A transcript that the decoder wrote again and again is handed on once; nothing that a person may say is cut."""

from __future__ import annotations

import pytest

from lalm.connectors._whisper_decoder import without_echo


@pytest.mark.parametrize(
    ("text", "ended", "once"),
    [
        ("Start the dryer. Start the dryer.", True, "Start the dryer."),
        ("Start some folk music. Start some folk music, start some fol", False, "Start some folk music."),
        ("make me a large latte with milk make me a lar", False, "make me a large latte with milk"),
        ("volume to half volume to half volume", True, "volume to half"),
    ],
)
def test_echoes_are_cut(text, ended, once):
    assert without_echo(text, ended) == once


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("", True),
        ("stop", False),
        ("no no", True),
        ("turn on the light and turn on the lamp", True),
        ("turn on the light turn on the light in the hall", True),
        ("call mum and call", False),
    ],
)
def test_what_is_no_echo_stays(text, ended):
    assert without_echo(text, ended) == text
