"""Fetching: a real pip and real wheels, from a folder instead of an index."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from lalm.errors import UserError
from lalm.models import smol
from lalm.models.fetch import Artifact, Hub, Package, fetch, lalm_home, pinned

WEIGHTS = bytes(range(256)) * 40
TOKENIZER = b'{"version": "1.0"}'
HUB_FILE = b"from the hub"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def build_wheel(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    """A wheel that pip accepts, holding `members`."""
    module = name.replace("-", "_")
    path = folder / f"{module}-1.0-py3-none-any.whl"
    info = f"{module}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all that pip knows of; the hub is switched off."""
    import huggingface_hub.constants

    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip-cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return folder


def artifact_of(*wheels: tuple[Path, dict[str, bytes]]) -> Artifact:
    pins = tuple(
        Package(
            package=path.name.split("-")[0].replace("_", "-"),
            version="1.0",
            file=path.name,
            size_bytes=path.stat().st_size,
            sha256=sha256(path.read_bytes()),
            members={name: sha256(data) for name, data in members.items()},
        )
        for path, members in wheels
    )
    hub = Hub("someone/tiny", "0123456789abcdef0123456789abcdef01234567", {"model.safetensors": sha256(HUB_FILE)})
    return Artifact("tiny", "Tiny model", "MIT", pins, hub)


@pytest.fixture
def tiny(index: Path) -> Artifact:
    first, second = {"tiny_model_1/weights.bin": WEIGHTS}, {"tiny_model_2/data/tokenizer.json": TOKENIZER}
    return artifact_of(
        (
            build_wheel(index, "tiny-model-1", first | {"tiny_model_1/__init__.py": b"raise SystemExit('it ran')"}),
            first,
        ),
        (build_wheel(index, "tiny-model-2", second), second),
    )


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_only_the_pinned_members_arrive(tiny: Artifact, tmp_path: Path):
    said: list[str] = []
    fetched = fetch(tiny, tmp_path / "downloads", said.append)
    assert fetched.source == "packages"
    assert fetched.files["weights.bin"].read_bytes() == WEIGHTS
    assert fetched.files["tokenizer.json"].read_bytes() == TOKENIZER
    assert files_below(tmp_path / "downloads") == {"tiny/weights.bin", "tiny/tokenizer.json"}
    assert [wheel["package"] for wheel in fetched.provenance["packages"]] == ["tiny-model-1", "tiny-model-2"]
    assert said == ["fetching tiny-model-1 1.0 (0 MB)", "fetching tiny-model-2 1.0 (0 MB)"]


def test_what_is_whole_is_kept_and_what_is_damaged_is_named_and_replaced(tiny: Artifact, index: Path, tmp_path: Path):
    downloads, said = tmp_path / "downloads", []
    fetched = fetch(tiny, downloads, said.append)
    (index / tiny.packages[1].file).unlink()  # the whole second file must not be asked for again
    weights = fetched.files["weights.bin"]
    weights.write_bytes(WEIGHTS[:-1])
    said.clear()
    again = fetch(tiny, downloads, said.append)
    assert said[0].startswith(f"{weights} is damaged or partial")
    assert said[1:] == ["fetching tiny-model-1 1.0 (0 MB)"]
    assert again.files["weights.bin"].read_bytes() == WEIGHTS


def test_a_wheel_with_another_sha256_is_named_and_fetched_again(tiny: Artifact, index: Path, tmp_path: Path):
    wheel = tiny.packages[0]
    good = (index / wheel.file).read_bytes()
    build_wheel(index, "tiny-model-1", {"tiny_model_1/weights.bin": b"something else"})
    said: list[str] = []

    def say(message: str) -> None:
        said.append(message)
        if "it is dropped and fetched again" in message:
            (index / wheel.file).write_bytes(good)

    assert fetch(tiny, tmp_path / "downloads", say).files["weights.bin"].read_bytes() == WEIGHTS
    assert any(wheel.file in message and wheel.sha256 in message for message in said)


def test_a_wheel_that_stays_wrong_is_never_used(tiny: Artifact, index: Path, tmp_path: Path):
    build_wheel(index, "tiny-model-1", {"tiny_model_1/weights.bin": b"something else"})
    with pytest.raises(UserError, match=r"tiny_model_1-1\.0-py3-none-any\.whl is damaged or not the pinned file"):
        fetch(tiny, tmp_path / "downloads", lambda _: None)
    assert files_below(tmp_path / "downloads") == set()


def test_a_truncated_wheel_is_never_used(tiny: Artifact, index: Path, tmp_path: Path):
    path = index / tiny.packages[0].file
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"pip failed: .*tiny.model.1.* is invalid"):
        fetch(tiny, tmp_path / "downloads", lambda _: None)
    assert files_below(tmp_path / "downloads") == set()


def test_a_member_cannot_leave_the_folder(index: Path, tmp_path: Path):
    members = {"../../outside.bin": WEIGHTS}
    artifact = artifact_of((build_wheel(index, "tiny-model-3", members), members))
    fetch(artifact, tmp_path / "downloads", lambda _: None)
    assert files_below(tmp_path / "downloads") == {"tiny/outside.bin"}
    assert not list(tmp_path.glob("outside.bin"))


def test_offline_says_what_was_tried_and_what_to_do(tiny: Artifact, index: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("LALM_HOME", str(tmp_path / "home"))
    shutil.rmtree(index)
    index.mkdir()
    with pytest.raises(UserError) as caught:
        fetch(tiny, tmp_path / "downloads", lambda _: None)
    message = str(caught.value)
    for part in ("Tiny model", "tiny-model-1==1.0", "No matching distribution", "someone/tiny", "0123456789ab"):
        assert part in message
    for part in ("index-url", "PIP_FIND_LINKS", "LALM_HOME", str(tmp_path / "home")):
        assert part in message
    assert "\n" not in message


def test_the_hub_is_the_second_source_and_is_checked_too(tiny: Artifact, index: Path, tmp_path: Path, monkeypatch):
    asked, sent = [], {"data": HUB_FILE}

    def hf_hub_download(repo_id: str, filename: str, *, revision: str, local_dir: Path) -> str:
        asked.append((repo_id, filename, revision))
        local_dir.mkdir(parents=True)
        (local_dir / filename).write_bytes(sent["data"])
        return str(local_dir / filename)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hf_hub_download)
    shutil.rmtree(index)
    index.mkdir()
    sent["data"] = HUB_FILE[:-1]
    with pytest.raises(UserError, match=r"model\.safetensors came with another sha256"):
        fetch(tiny, tmp_path / "downloads", lambda _: None)
    sent["data"] = HUB_FILE
    fetched = fetch(tiny, tmp_path / "downloads", lambda _: None)
    assert fetched.source == "hub"
    assert fetched.files["model.safetensors"].read_bytes() == HUB_FILE
    assert asked[-1] == ("someone/tiny", "model.safetensors", tiny.hub.revision)
    assert fetched.provenance["revision"] == tiny.hub.revision


def test_everything_is_pinned_byte_for_byte_and_licensed():
    artifacts = pinned()
    assert set(artifacts) == {
        "whisper-base",
        "smollm2-135m-instruct",
        "gemma-3-270m",
        "gemma-terms",
        "kokoro-82m",
        "kokoro-english-voices",
        "piper-en-us-joe",
    }
    for artifact in artifacts.values():
        hashes = [wheel.sha256 for wheel in artifact.packages]
        hashes += [one for wheel in artifact.packages for one in wheel.members.values()]
        assert all(re.fullmatch(r"[0-9a-f]{64}", one) for one in hashes)
        names = [wheel.local_name(member) for wheel in artifact.packages for member in wheel.members]
        assert len(set(names)) == len(names)
    for artifact in (artifacts[name] for name in smol.ARTIFACTS):
        assert artifact.licence in {"MIT", "Apache-2.0"}
        assert artifact.hub is not None
        assert re.fullmatch(r"[0-9a-f]{40}", artifact.hub.revision)
        assert "model.safetensors" in artifact.hub.files
        assert all(re.fullmatch(r"[0-9a-f]{64}", one) for one in artifact.hub.files.values())
        assert all(name.endswith((".safetensors", ".json")) for name in artifact.hub.files)


def test_home_is_lalm_home_then_xdg_then_the_home_cache(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LALM_HOME", raising=False)
    assert lalm_home() == tmp_path / ".cache" / "lalm"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert lalm_home() == tmp_path / "xdg" / "lalm"
    monkeypatch.setenv("LALM_HOME", "~/weights")
    assert lalm_home() == tmp_path / "weights"
