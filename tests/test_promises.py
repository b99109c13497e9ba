"""The promises of docs/architecture.md about the whole house: imports one way, quick to start, no torch where none is due."""

from __future__ import annotations

import ast
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "lalm"
HEAVY = ("torch", "transformers", "peft", "tokenizers", "accelerate", "huggingface_hub")


@dataclass(frozen=True)
class Import:
    """`module` imports `target` (both without `lalm.`), at import time or `late`, inside a function."""

    module: str
    target: str
    late: bool
    line: int


def modules() -> dict[str, Path]:
    """Every module of the package by its name without `lalm.`; the package itself is ``."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports_of(name: str, text: str) -> list[Import]:
    """The modules of the package that a module imports, relative and late imports included, type checking left out."""
    found: list[Import] = []
    package = (name if name in MODULES and MODULES[name].name == "__init__.py" else name.rpartition(".")[0]).split(".")
    package = [part for part in package if part]

    def add(target: str, late: bool, line: int) -> None:
        parts = target.split(".")
        if parts[0] != "lalm":
            return
        inner = ".".join(parts[1:])
        while (
            inner
            and inner not in MODULES
            and inner.rpartition(".")[0] in (*MODULES, *{m.split(".")[0] for m in MODULES})
        ):
            if inner in {m.rpartition(".")[0] for m in MODULES}:
                break  # a folder without an __init__
            inner = inner.rpartition(".")[0]
        found.append(Import(name, inner, late, line))

    def visit(node: ast.AST, late: bool) -> None:
        if isinstance(node, ast.If) and is_type_checking(node.test):
            for child in node.orelse:
                visit(child, late)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name, late, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package[: len(package) - node.level + 1]
                base = ".".join(["lalm", *above, *([base] if base else [])])
            for alias in node.names:
                add(f"{base}.{alias.name}", late, node.lineno)
        late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, late)

    visit(ast.parse(text), False)
    return found


IMPORTS = [found for name, path in MODULES.items() for found in imports_of(name, path.read_text(encoding="utf-8"))]


def room(module: str) -> str:
    return module.split(".")[0]


def rooms() -> list[str]:
    """The rooms from left to right, as docs/architecture.md draws them."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = re.search(r"```\n(records, errors.*?)```", text, re.DOTALL)
    assert drawn is not None, "docs/architecture.md draws the rooms in a block that begins with `records, errors`"
    return [name.strip() for name in re.split(r"[,<]", drawn[1]) if name.strip()]


# -- imports point one way ---------------------------------------------------------------------------------------------------


def test_the_reader_of_imports_sees_every_kind():
    text = """
from __future__ import annotations
import json, lalm.records
from lalm import plugins
from lalm.data import audio
from .manifest import read_manifest
from . import budget
from ..errors import DataError
if TYPE_CHECKING:
    from lalm.cli import main
else:
    from lalm.config import Recipe
def f():
    from lalm.train.loop import fit
class C:
    from lalm import contracts
"""
    found = {(one.target, one.late) for one in imports_of("data.pools", text)}
    early = {"records", "plugins", "data.audio", "data.manifest", "data.budget", "errors", "config", "contracts"}
    assert found == {*((name, False) for name in early), ("train.loop", True)}


def test_every_room_is_drawn_once():
    order = rooms()
    assert len(order) == len(set(order))
    assert {room(name) for name in MODULES} - {"", "__main__"} <= set(order)
    assert len(IMPORTS) > 200, "the reader of imports found nearly nothing: it is broken"


def test_imports_point_to_the_left():
    """Also late ones: a function-level import hides a wall, it does not move it."""
    position = {name: index for index, name in enumerate(rooms())}
    wrong = [
        f"lalm.{one.module} (line {one.line}) imports lalm.{one.target}"
        for one in IMPORTS
        if room(one.module) not in ("", "__main__", "cli")
        and one.target
        and position[room(one.target)] > position[room(one.module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_nobody_imports_the_command_line():
    assert {one.module for one in IMPORTS if one.target in ("cli", "__main__")} <= {"__main__"}


def test_the_package_itself_imports_nothing_until_asked():
    """`import lalm` is the front door: it may lead anywhere, but only when `lalm.load` is called."""
    assert all(one.late for one in IMPORTS if one.module == "")
    assert {one.target for one in IMPORTS if one.module == ""} == {"evaluate.understander"}


def test_there_is_no_cycle():
    edges: dict[str, set[str]] = {name: set() for name in MODULES}
    for one in IMPORTS:
        if one.module and one.target in MODULES and one.target:
            edges[one.module].add(one.target)
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name in done:
            return
        for target in sorted(edges[name]):
            walk(target, (*path, name))
        done.add(name)

    for name in MODULES:
        walk(name, ())


# -- quick to start, and without torch where none is due -----------------------------------------------------------------------


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that finds the package."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE.parent), **environment},
        timeout=120,
        check=False,
    )


SHOW_MODULES = """
import sys
from lalm.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("MODULES", *sorted({name.split(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["train", "--help"], ["ls"], ["ls", "tuners"]], ids=" ".join
)
def test_torch_is_not_imported_before_it_is_needed(arguments: list[str]):
    done = python(SHOW_MODULES, *arguments)
    assert done.stdout.strip()
    loaded = set(done.stderr.rpartition("MODULES")[2].split())
    assert "lalm" in loaded
    assert not loaded & set(HEAVY)


def test_help_answers_in_under_half_a_second():
    """Wall-clock seconds; on a machine with more work than cores those of the processor, which others cannot add to."""
    wall_s, processor_s = [], []
    for _ in range(7):
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "lalm", "--help"], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall_s.append(time.perf_counter() - started)
        processor_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert "COMMAND" in done.stdout
    assert statistics.median(processor_s) < 0.5, processor_s
    if os.getloadavg()[0] < (os.cpu_count() or 1):
        assert statistics.median(wall_s) < 0.5, wall_s


BLOCKED = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {heavy!r}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Wall())
""".replace("{heavy!r}", repr(HEAVY))


def test_the_wall_stands():
    done = python(BLOCKED + "import torch")
    assert done.returncode == 1
    assert "torch is blocked" in done.stderr


def test_score_runs_with_torch_blocked(tmp_path: Path):
    frame = {"intent": "on", "slots": [{"type": "place", "value": "hall"}]}
    rows = [
        {
            "id": str(i),
            "gold": frame,
            "prediction": frame if i else None,
            "raw": "",
            "status": "ok" if i else "failed",
            "latency_s": 0.1,
        }
        for i in range(10)
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code = BLOCKED + "import sys\nfrom lalm.cli import main\nsys.exit(main(sys.argv[1:]))"
    done = python(code, "score", str(tmp_path / "p.jsonl"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["exact_match"]["value"] == 0.9
    done = python(code, "report", str(tmp_path))
    assert done.returncode == 2, "a folder that is no run is the user's mistake, seen without torch"
    assert "Traceback" not in done.stderr


def test_metrics_scores_and_reports_import_with_torch_blocked():
    """Every module of the rooms that only read files, and every room to the left of the models."""
    order = rooms()
    light = [*order[: order.index("models")], "schemes", "report"]
    wanted = [name for name in MODULES if room(name) in light]
    wanted += ["evaluate.parse", "evaluate.prediction_rows", "evaluate.score", "evaluate.slurp", "evaluate.stats"]
    code = (
        BLOCKED
        + "import sys, importlib\nfor name in sys.argv[1:]:\n    importlib.import_module('lalm.' + name)\nprint(len(sys.argv) - 1)"
    )
    done = python(code, *wanted)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(wanted) > 30


# -- budgets for taste: told, not enforced ---------------------------------------------------------------------------------------


def test_budgets_for_taste_are_reported():
    """Modules of about 300 lines, functions of about 60 (the loop 120), no utils.py: a smell, so a warning."""
    over = []
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 300:
            over.append(f"{name} has {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > (120 if (name, node.name) == ("train.loop", "fit") else 60):
                    over.append(f"{name}.{node.name} has {length} lines")
    if over:
        warnings.warn("over the budgets for taste: " + "; ".join(over), stacklevel=1)
    assert not [path for path in MODULES.values() if path.name == "utils.py"]
