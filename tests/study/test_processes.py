"""One process at a time in a folder, and none that outlives the one that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lalm.errors import UserError
from lalm.study.processes import in_use

LEADER = """
import multiprocessing, os, sys, time

def work():
    from lalm.cores import end_with_parent
    end_with_parent()
    print(os.getpid(), flush=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        sum(range(1000))

if __name__ == "__main__":
    child = multiprocessing.get_context(sys.argv[1]).Process(target=work)
    child.start()
    child.join()
"""


def alive(pid: int) -> bool:
    try:
        return b"State:\tZ" not in Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, as Linux has it")
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_busy_worker_ends_when_its_leader_is_killed(method, tmp_path):
    (tmp_path / "leader.py").write_text(LEADER)
    command = [sys.executable, str(tmp_path / "leader.py"), method]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as leader:
        worker = int(leader.stdout.readline())
        assert alive(worker)
        leader.kill()
        assert leader.wait() == -signal.SIGKILL
        deadline = time.monotonic() + 30
        while alive(worker) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert not alive(worker)


def test_a_folder_is_one_processs_at_a_time(tmp_path):
    with in_use(tmp_path / "new"):
        with pytest.raises(UserError, match=r"new is in use by another lalm process"), in_use(tmp_path / "new"):
            pass
        with in_use(tmp_path / "other"):
            pass
    with in_use(tmp_path / "new"):
        pass


def test_a_killed_process_gives_its_folder_back(tmp_path):
    code = f"import sys, time; from lalm.study.processes import in_use\nwith in_use(__import__('pathlib').Path({str(tmp_path)!r})):\n    print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(UserError), in_use(tmp_path):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with in_use(tmp_path):
        pass
