"""Terms are shown and accepted once, before any weight is fetched; without them nothing is."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path

import pytest

from lalm.errors import ModelError
from lalm.models import gemma, terms
from lalm.models.fetch import Artifact, Fetched, Package

PAGE = (
    "<html><head><style>p {}</style><title>Gemma Terms of Use</title></head><body><ul><li>Models</li></ul>"
    '<h1>Gemma Terms of Use</h1><p>Last modified: today</p><p>You must\nbe <a href="#">"kind</a>".</p><li>One</li>'
    "<p>Send feedback</p><script>let x = 1;</script></body></html>"
)


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def home(monkeypatch, tmp_path: Path) -> Path:
    """Stands in for the package: a page with a sha256 of its own."""

    def pinned() -> dict[str, Artifact]:
        sha256 = hashlib.sha256(PAGE.encode()).hexdigest()
        package = Package("terms", "1", "terms.whl", 1, "", {"terms/GEMMA_TERMS.html": sha256})
        return {"gemma-terms": Artifact("gemma-terms", "terms", "terms", (package,), None)}

    def fetch(artifact: Artifact, folder: Path, say: object) -> Fetched:
        page = folder / artifact.name / "GEMMA_TERMS.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(PAGE, encoding="utf-8")
        return Fetched("packages", {page.name: page})

    monkeypatch.setenv("LALM_HOME", str(tmp_path))
    monkeypatch.delenv("LALM_ACCEPT_GEMMA_TERMS", raising=False)
    monkeypatch.setattr(terms, "fetch", fetch)
    monkeypatch.setattr(terms, "pinned", pinned)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return tmp_path


def accept() -> list[str]:
    said: list[str] = []
    page = terms.accepted_terms(terms.GEMMA, said.append)
    assert page.read_text(encoding="utf-8") == PAGE
    return said


def test_without_a_terminal_they_are_not_accepted_unless_the_environment_says_so(home: Path, monkeypatch):
    for value in (None, "0", "yes"):
        if value is not None:
            monkeypatch.setenv("LALM_ACCEPT_GEMMA_TERMS", value)
        with pytest.raises(ModelError, match=r"ai\.google\.dev/gemma/terms.*LALM_ACCEPT_GEMMA_TERMS=1") as caught:
            accept()
        assert str(home / "accepted" / "gemma-terms" / "GEMMA_TERMS.html") in str(caught.value)
        assert not (home / "accepted" / "gemma.json").exists()
    with pytest.raises(ModelError):
        gemma.gemma_folder()
    assert not (home / "models").exists()

    monkeypatch.setenv("LALM_ACCEPT_GEMMA_TERMS", "1")
    assert "accepted" in accept()[0]
    note = json.loads((home / "accepted" / "gemma.json").read_text())
    assert note["accepted_by"] == "LALM_ACCEPT_GEMMA_TERMS=1"
    assert note["link"] == "https://ai.google.dev/gemma/terms"

    monkeypatch.delenv("LALM_ACCEPT_GEMMA_TERMS")
    assert accept() == []  # once is enough


@pytest.mark.parametrize(("typed", "right"), [("yes\n", True), (" Yes \n", True), ("y\n", False), ("", False)])
def test_on_a_terminal_they_are_shown_and_yes_is_asked_for(home: Path, monkeypatch, capsys, typed: str, right: bool):
    screen = Screen()
    monkeypatch.setattr(sys, "stdin", Screen(typed))
    monkeypatch.setattr(sys, "stderr", screen)
    if right:
        accept()
    else:
        with pytest.raises(ModelError, match="not accepted"):
            accept()
    assert (home / "accepted" / "gemma.json").is_file() == right
    assert 'Gemma Terms of Use\nLast modified: today\nYou must be "kind".\nOne\n' in screen.getvalue()
    assert "Models" not in screen.getvalue()
    assert "let x" not in screen.getvalue()
    assert capsys.readouterr().out == ""


def test_other_terms_are_to_be_accepted_anew(home: Path, monkeypatch):
    monkeypatch.setenv("LALM_ACCEPT_GEMMA_TERMS", "1")
    accept()
    monkeypatch.delenv("LALM_ACCEPT_GEMMA_TERMS")
    monkeypatch.setattr(sys.modules[__name__], "PAGE", PAGE.replace("kind", "kinder"))
    with pytest.raises(ModelError, match="nobody has accepted"):
        accept()


def test_a_home_that_is_a_file_is_a_user_error(home: Path, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv("LALM_HOME", str(home / "file"))
    with pytest.raises(ModelError, match="LALM_HOME"):
        accept()
