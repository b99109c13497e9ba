"""`lalm bench`. As in `cli`, one call, and nothing heavy is imported before."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

Add = Callable[[str, Callable[[argparse.Namespace], None], str], argparse.ArgumentParser]


def add_bench(command: Add) -> None:
    """Add `bench`; `command` makes a parser from name, function and help."""
    add = command("bench", _bench, "measure training and answering beside a plain reference on the same weights")
    add.add_argument(
        "scenario",
        nargs="*",
        help="short, long, mid, tiny, qwen2_audio_7b or qwen2_audio_7b_long (none: short, long and mid)",
    )
    add.add_argument("--out", type=Path, default=Path("bench"), help="folder for one JSON file a scenario")
    add.add_argument("--repetitions", type=int, default=3, help="measurements of each side, turn about")
    add.add_argument("--bf16", action="store_true", help="compute in bfloat16 on both sides")
    add.add_argument("--threads", type=int, help="threads of each process (none: one a core)")
    add.add_argument(
        "--growth", nargs="*", metavar="CURVE", help="seconds and memory as a size grows (none named: all)"
    )
    add.add_argument("--dry-run", action="store_true", help="sizes, operations and memory alone, on any machine")


def _bench(args: argparse.Namespace) -> None:
    from lalm.bench import growth, run

    if args.dry_run:
        run.dry(args.scenario)
        return
    if args.growth is not None:
        growth.curves(args.growth, args.out, args.repetitions, args.threads, tiny=args.scenario == ["tiny"])
    else:
        run.bench(args.scenario or ["short", "long", "mid"], args.out, args.repetitions, args.bf16, args.threads)
    print(f"Done: {args.out}")
