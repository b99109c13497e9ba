"""docs/data.md names every format, corpus, option and check, and its commands are commands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from lalm import cli, cli_data, plugins
from lalm.data.findings import CHECKS
from lalm.data.ontology import read_ontology

TEXT = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", plugins.names("formats"))
def test_every_format_has_a_section_and_a_line_in_the_table(name):
    assert re.search(rf"^### `{name}`: ", TEXT, re.MULTILINE)
    assert re.search(rf"^\| `{name}` \|", TEXT, re.MULTILINE)


def test_every_corpus_and_every_check_is_named():
    for name in (*plugins.names("corpora"), *CHECKS):
        assert f"`{name}`" in TEXT, name


def test_every_option_of_csv_is_in_its_table():
    section = TEXT.split("### `csv`")[1].split("\n## ")[0]
    for name in plugins.load("corpora", "csv").Config.model_fields:
        assert f"`{name}`" in section, name


def test_the_commands_are_commands():
    """Their options are known, and their `key=value` are options of the format."""
    found = re.findall(r"^lalm data (?!.*[|\[])((?:.*\\\n)*.*)$", TEXT, re.MULTILINE)
    assert len(found) >= 5
    commands = cli_data.commands_of(cli._parsers()[1]["data"])
    for text in found:
        name, *words = shlex.split(text.replace("\\\n", " "), comments=True)
        args = commands[name].parse_intermixed_args(words)
        if name in ("import", "export"):
            fields = plugins.load("formats", args.format).Config.model_fields
            assert {one.partition("=")[0] for one in args.option} <= set(fields), text


def test_the_ontology_is_one(tmp_path):
    block = TEXT.split("## The ontology")[1].split("```json\n")[1].split("```")[0]
    (tmp_path / "o.json").write_text(block, encoding="utf-8")
    ontology = read_ontology(tmp_path / "o.json")
    assert ontology.to_json()["slots"]["size"] == json.loads(block)["slots"]["size"]
    assert not ontology.slots["time"].closed


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([\w.]+\.md)", TEXT):
        assert (Path(__file__).parents[2] / "docs" / target).is_file(), target
