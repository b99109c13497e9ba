"""Data sets by their name on the Hub: a small Hub on this machine, and the real client of it, in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import soundfile
from test_hf import COLUMNS, check_massive, sound, speech_massive

pytest.importorskip("datasets", reason="needs lalm's extra hf")
COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """Answers for one data set, `me/tiny`, what the Hub answers: its files, their tree, their contents."""

    files: dict[str, bytes] = {}  # noqa: RUF012

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
        api = "/api/datasets/me/tiny"
        if path.startswith("/datasets/me/tiny/resolve/"):
            body = self.files.get(path.split("/resolve/")[1].partition("/")[2])
            if body is None:
                return self.answer(404, X_Error_Code="EntryNotFound")
            return self.answer(200, body, ETag=f'"{hashlib.sha1(body).hexdigest()}"', X_Repo_Commit=COMMIT)
        if path == api or path.startswith(f"{api}/revision/"):
            siblings = [{"rfilename": name} for name in self.files]
            value = {"id": "me/tiny", "sha": COMMIT, "private": False, "siblings": siblings, "tags": []}
            return self.answer(200, json.dumps(value).encode(), Content_Type="application/json")
        if path.startswith(f"{api}/tree/"):
            folder = path.removeprefix(f"{api}/tree/").partition("/")[2]
            value = self.tree(f"{folder}/" if folder else "", "recursive=true" in self.path.lower())
            return self.answer(200, json.dumps(value).encode(), Content_Type="application/json")
        return self.answer(404, b"{}")

    do_HEAD = do_GET  # noqa: N815

    def tree(self, folder: str, recursive: bool) -> list[dict[str, object]]:
        found: dict[str, dict[str, object]] = {}
        for name, body in self.files.items():
            if not name.startswith(folder):
                continue
            parts = name.removeprefix(folder).split("/")
            for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                path = folder + "/".join(parts[:depth])
                found[path] = {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}
            if recursive or len(parts) == 1:
                found[name] = {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
        return list(found.values())


@pytest.fixture
def hub(tmp_path):
    """Runs an import from a Hub that holds some files."""

    def call(files: dict[str, bytes], *arguments: str) -> subprocess.CompletedProcess[str]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Ours", (Hub,), {"files": files}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE"))},
            "HF_ENDPOINT": address,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }
        try:
            return subprocess.run(
                [sys.executable, "-m", "lalm", "data", "import", "hf", "me/tiny", *arguments],
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        finally:
            server.shutdown()

    return call


def test_parquet_on_the_hub(hub, tmp_path, rows_of):
    path = tmp_path / "train.parquet"
    speech_massive().to_parquet(path)
    files = {"data/train-00000-of-00001.parquet": path.read_bytes(), "README.md": b"# tiny\n"}
    done = hub(files, *COLUMNS, "--out", str(tmp_path / "in"))
    assert done.returncode == 0, done.stderr
    found = rows_of(tmp_path / "in")
    assert {row.split for row in found.values()} == {"train"}
    check_massive(found)
    assert all(row.audio.is_relative_to(tmp_path / "in" / "audio") for row in found.values())


def test_an_audio_folder_on_the_hub_is_copied_out_of_the_cache(hub, tmp_path, rows_of):
    """`datasets` itself would need torchcodec to make rows of it."""
    table = b"file_name,transcription,intent\na.wav,lights on,on\n"
    files = {
        f"{split}/{name}": body
        for split in ("train", "test")
        for name, body in (("a.wav", sound()), ("metadata.csv", table))
    }
    done = hub(files, "--out", str(tmp_path / "in"))
    assert done.returncode == 0, done.stderr
    found = rows_of(tmp_path / "in")
    assert {(row.split, row.text, row.frame.intent) for row in found.values()} == {
        ("train", "lights on", "on"), ("test", "lights on", "on"),
    }  # fmt: skip
    for row in found.values():
        assert Path(row.audio).parent == tmp_path / "in" / "audio"
        assert soundfile.info(str(row.audio)).frames == 1600


def test_a_data_set_that_is_not_there(hub, tmp_path):
    done = hub({}, "config=none", "--out", str(tmp_path / "in"))
    assert done.returncode == 2
    assert "lalm: me/tiny: cannot be read from the Hub (" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "in").exists()
