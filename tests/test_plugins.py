"""Plug-ins by file: one new file and no edit, for every kind; what is wrong with a file is said, never skipped."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

import lalm
from lalm import contracts, plugins
from lalm.errors import ConfigError

BUILT_IN = [(kind, name) for kind in plugins.CONTRACTS for name in plugins.names(kind)]

# What a person writes: the signatures are those of contracts.py.
BODIES = {
    "corpora": "def read(root, split, cfg):\n    return []\n\ndef make_tiny(root, seed):\n    pass\n",
    "formats": "def read(source, into, cfg):\n    return []\n\ndef write(rows, out, cfg):\n    return 0\n",
    "tasks": "def examples(item, cfg, rng):\n    return []\n",
    "synth": "def languages(cfg):\n    return []\n\ndef voices(language, cfg):\n    return []\n\ndef speak(text, voice, language, cfg):\n    raise NotImplementedError\n",
    "select": "def choose(candidates, budget, cfg):\n    return []\n",
    "connectors": "def build(audio_width, text_width, cfg):\n    raise NotImplementedError\n",
    "backbones": "def load(cfg):\n    raise NotImplementedError\n\ndef make_tiny(seed):\n    raise NotImplementedError\n",
    "tuners": "def attach(model, groups, cfg):\n    return []\n\ndef merge(model):\n    pass\n",
    "schemes": "def plan(cfg, pools):\n    return []\n",
    "metrics": "HIGHER_IS_BETTER = True\n\ndef count(reference, hypothesis):\n    return None\n\ndef reduce(counts):\n    return 0.0\n",
    "probes": "def measure(base, tuned, examples, cfg):\n    return {}\n",
}
PROTOCOLS = {
    "corpora": contracts.Corpus,
    "formats": contracts.Format,
    "tasks": contracts.Task,
    "synth": contracts.SynthEngine,
    "select": contracts.Selector,
    "connectors": contracts.Connector,
    "backbones": contracts.Backbone,
    "tuners": contracts.Tuner,
    "schemes": contracts.Scheme,
    "metrics": contracts.Metric,
}
HEAD = '''"""{doc}"""

from pydantic import Field

from lalm.plugins import PluginConfig


class Config(PluginConfig):
    """Options."""

    strength: float = Field(1.0, description="how strong, 0 to 1")


'''


@pytest.fixture(autouse=True)
def no_roots_left_behind() -> Iterator[None]:
    before = list(plugins._user_roots)
    yield
    plugins._user_roots[:] = before


def write(root: Path, kind: str, name: str, body: str | None = None, doc: str = "Does as a test says.") -> Path:
    path = root / kind / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD.format(doc=doc) + (BODIES[kind] if body is None else body), encoding="utf-8")
    return path


def test_a_kind_that_is_new_gets_a_body_here():
    assert set(BODIES) == set(plugins.CONTRACTS)


@pytest.mark.parametrize("kind", sorted(plugins.CONTRACTS))
def test_one_new_file_in_a_users_folder(kind: str, tmp_path: Path):
    write(tmp_path, kind, "brand_new")
    before = plugins.names(kind)
    plugins.add_roots([tmp_path])
    plugins.add_roots([tmp_path])  # twice is once
    assert plugins.names(kind) == sorted([*before, "brand_new"])
    assert "  brand_new          Does as a test says." in plugins.describe(kind).splitlines()
    module = plugins.load(kind, "brand_new")
    assert plugins.load(kind, "brand_new") is module
    assert all(hasattr(module, needed) for needed in plugins.CONTRACTS[kind])
    assert plugins.configure(module, {"strength": 0.5}, kind).strength == 0.5
    assert "strength = 1.0: how strong, 0 to 1" in plugins.describe(kind, options=True)
    with pytest.raises(ConfigError, match=r"here\.strenght: there is no such key\. Did you mean 'strength'\?"):
        plugins.configure(module, {"strenght": 1}, "here")
    with pytest.raises(ConfigError, match=rf"Unknown {kind} plug-in 'brand_knew'\. Did you mean 'brand_new'\?"):
        plugins.load(kind, "brand_knew")


@pytest.fixture(scope="module")
def package_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one new file of each kind in it, and nothing else changed."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(
        Path(lalm.__file__).parent,
        folder / "lalm",
        ignore=shutil.ignore_patterns("__pycache__", "*.gz", "*.safetensors", "*.ogg"),
    )
    for kind in plugins.CONTRACTS:
        write(folder / "lalm", kind, "brand_new")
    return folder


def test_one_new_file_in_the_package(package_copy: Path):
    code = """
import sys
from lalm import plugins
for kind in plugins.CONTRACTS:
    assert "brand_new" in plugins.names(kind)
    module = plugins.load(kind, "brand_new")
    assert module.__name__ == f"lalm.{kind}.brand_new"
    assert module.__file__.startswith(sys.argv[1])
    assert plugins.configure(module, {}, kind).strength == 1.0
from lalm.cli import main
sys.exit(main(["ls"]))
"""
    command = [sys.executable, "-c", code, str(package_copy)]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(package_copy), "PATH": ""})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("brand_new          Does as a test says.") == len(plugins.CONTRACTS)


def test_a_recipe_uses_a_users_own(tmp_path: Path):
    from lalm.config import load_recipe

    write(tmp_path / "mine", "schemes", "only_twice")
    (tmp_path / "recipe.yaml").write_text(
        "data: {corpus: barista}\nplugins: [mine]\nscheme: {name: only_twice, strength: 0.25}\n"
    )
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert (recipe.scheme.name, recipe.scheme.options) == ("only_twice", {"strength": 0.25})
    assert recipe.plugins == (tmp_path / "mine",)


@pytest.mark.parametrize("kind", sorted(plugins.CONTRACTS))
def test_a_missing_part_is_named(kind: str, tmp_path: Path):
    plugins.add_roots([write(tmp_path, kind, "empty_one", body="").parents[1]])
    with pytest.raises(ConfigError) as caught:
        plugins.load(kind, "empty_one")
    assert all(needed in str(caught.value) for needed in plugins.CONTRACTS[kind])
    assert "empty_one.py" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BODIES["schemes"], "lacks Config"),
        (HEAD.format(doc="") + BODIES["schemes"], "has no docstring"),
        (HEAD.format(doc="x") + "plan = 3\n", "plan is not a function"),
        (
            '"""x"""\nclass Config:\n    pass\n' + BODIES["schemes"],
            "Config is no subclass of lalm.plugins.PluginConfig",
        ),
        ("def plan(:\n", "is broken: SyntaxError"),
        ("import no_such_package\n", "is broken: ModuleNotFoundError: No module named 'no_such_package'"),
        ("1 / 0\n", "is broken: ZeroDivisionError: division by zero"),
    ],
)
def test_a_broken_file_is_an_error(text: str, message: str, tmp_path: Path):
    path = tmp_path / "schemes" / "broken_one.py"
    path.parent.mkdir()
    path.write_text(text)
    plugins.add_roots([tmp_path])
    with pytest.raises(ConfigError) as caught:
        plugins.load("schemes", "broken_one")
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "lalm_user_plugins.schemes.broken_one" not in sys.modules or "broken" not in message


def test_a_mended_file_is_loaded_after_it_was_broken(tmp_path: Path):
    path = write(tmp_path, "schemes", "mended", body="1 / 0\n")
    plugins.add_roots([tmp_path])
    with pytest.raises(ConfigError, match="is broken"):
        plugins.load("schemes", "mended")
    path.write_text(HEAD.format(doc="x") + BODIES["schemes"] + "# mended\n")
    assert plugins.load("schemes", "mended").plan(None, None) == []


def test_ls_names_a_file_that_is_no_python(tmp_path: Path):
    for content in (b"def plan(:\n", b"\x00\x01", b"\xff\xfe"):
        (tmp_path / "schemes").mkdir(exist_ok=True)
        (tmp_path / "schemes" / "odd.py").write_bytes(content)
        plugins.add_roots([tmp_path])
        with pytest.raises(ConfigError, match=r"odd\.py.* is broken: SyntaxError"):
            plugins.describe("schemes")


def test_two_of_a_name(tmp_path: Path):
    path = write(tmp_path, "tuners", "lora")
    plugins.add_roots([tmp_path])
    with pytest.raises(ConfigError, match="Two tuners plug-ins are named 'lora'") as caught:
        plugins.names("tuners")
    assert str(path) in str(caught.value)


def test_folders_that_are_none(tmp_path: Path):
    with pytest.raises(ConfigError, match="is not a folder"):
        plugins.add_roots([tmp_path / "missing"])
    with pytest.raises(ConfigError, match="holds none of the kind folders"):
        plugins.add_roots([tmp_path])
    write(tmp_path, "tuners", "mine")
    write(tmp_path / "misspelt", "tuners", "mine").parent.rename(tmp_path / "scheme")
    with pytest.raises(ConfigError, match=r"scheme is named like no kind of plug-in\. Did you mean 'schemes'\?"):
        plugins.add_roots([tmp_path])
    assert tmp_path not in plugins._user_roots


def test_unknown_kind():
    with pytest.raises(ConfigError, match=r"Unknown plug-in kind 'tuner'\. Did you mean 'tuners'\?"):
        plugins.names("tuner")


def test_helpers_with_an_underscore_are_no_plug_ins(tmp_path: Path):
    write(tmp_path, "tuners", "_helper")
    plugins.add_roots([tmp_path])
    assert "_helper" not in plugins.names("tuners")
    assert not any(name.startswith("_") for _, name in BUILT_IN)


# -- what ships with the package -----------------------------------------------------------------------------------------


def test_the_kinds_of_the_slice_are_there():
    at_least = {
        "corpora": {"barista", "slurp", "fsdd", "jsonl", "csv"},
        "schemes": {"text_only", "direct_mixing", "curriculum", "speech_only"},
        "tuners": {"lora", "full"},
        "connectors": {"ctc", "hybrid", "cascade"},
        "backbones": {"smol"},
        "metrics": {"intent_accuracy", "entity_f1", "slu_f1", "exact_match", "command_acceptance", "wer"},
        "tasks": {"slu"},
    }
    for kind, expected in at_least.items():
        assert expected <= set(plugins.names(kind)), kind


@pytest.mark.parametrize(("kind", "name"), BUILT_IN, ids=lambda value: value)
def test_config_is_frozen_strict_and_described(kind: str, name: str):
    """Every field has one sentence; a recipe's `name` is never an option; a mistyped key and a change are errors."""
    model = plugins.load(kind, name).Config
    assert issubclass(model, plugins.PluginConfig)
    assert model.model_config["frozen"]
    assert model.model_config["extra"] == "forbid"
    assert (model.__doc__ or "").strip()
    assert "name" not in model.model_fields
    for field, info in model.model_fields.items():
        assert (info.description or "").strip(), f"{kind}/{name}: {field}"
        assert not info.is_required(), f"{kind}/{name}: {field} has no default, so `{name}` alone would not do"
    cfg = model()
    assert model.model_validate(cfg.model_dump(mode="json")) == cfg, "a saved recipe is read back equal"
    with pytest.raises(ConfigError, match="no_such_option: there is no such key"):
        plugins.configure(plugins.load(kind, name), {"no_such_option": 1}, "here")
    for field in list(model.model_fields)[:1]:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(cfg, field, None)


@pytest.mark.parametrize(("kind", "name"), BUILT_IN, ids=lambda value: value)
def test_signatures_are_the_contracts(kind: str, name: str):
    """The functions that `contracts.py` names, with its arguments under its names, each with a docstring."""
    module = plugins.load(kind, name)
    for needed in plugins.CONTRACTS[kind]:
        if not needed.islower():
            assert isinstance(getattr(module, needed), bool)
            continue
        function = getattr(module, needed)
        asked = list(inspect.signature(getattr(PROTOCOLS[kind], needed)).parameters)[1:]
        given = inspect.signature(function).parameters
        assert list(given)[: len(asked)] == asked, f"{kind}/{name}.{needed}"
        extra = list(given.values())[len(asked) :]
        assert all(parameter.default is not parameter.empty for parameter in extra)
        assert (function.__doc__ or "").strip(), f"{kind}/{name}.{needed} has no docstring"


def test_the_table_of_contracts_is_the_page_of_contracts():
    for kind, protocol in PROTOCOLS.items():
        functions = {
            name for name, value in vars(protocol).items() if inspect.isfunction(value) and not name.startswith("_")
        }
        constants = set(vars(protocol).get("__annotations__", {}))
        assert set(plugins.CONTRACTS[kind]) == functions | constants, kind
