"""How well slot values are heard: least edits of a value against any stretch of what was heard, per character.

    python -m lalm.evaluate.hearing ../shared/data/barista --corpus barista --connector ctc

For recordings that have labels but no transcripts. 0 means that the value stands in the text letter for letter.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lalm import plugins
from lalm.errors import UserError
from lalm.evaluate.transcribe import transcribe
from lalm.languages import only_words
from lalm.records import Utterance


def distance_to_stretch(value: str, text: str) -> float:
    """Edits between `value` and the stretch of `text` that is nearest to it, over the characters of `value`.

    Both in lower case with letters, digits and single blanks. Sellers 1980: a Levenshtein table whose first row is zero.
    """
    wanted, heard = _plain(value), _plain(text)
    if not wanted:
        return 0.0
    row = [0] * (len(heard) + 1)
    for i, letter in enumerate(wanted, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (letter != other))
    return min(row) / len(wanted)


def hearing(rows: Sequence[Utterance], texts: Sequence[str]) -> dict[str, Any]:
    """Shares of slot values heard exactly and within a quarter and a third of their characters; of rows with all exact."""
    distances = [
        [distance_to_stretch(s.value, text) for s in row.frame.slots] for row, text in zip(rows, texts, strict=True)
    ]
    flat = [distance for row in distances for distance in row]
    return {
        "recordings": len(rows),
        "slot_values": len(flat),
        "exact": sum(distance == 0 for distance in flat) / len(flat),
        "within_a_quarter": sum(distance <= 0.25 for distance in flat) / len(flat),
        "within_a_third": sum(distance <= 1 / 3 for distance in flat) / len(flat),
        "recordings_with_all_exact": sum(all(d == 0 for d in row) for row in distances) / len(rows),
    }


def _plain(text: str) -> str:
    return only_words(text.lower())


def main(argv: Sequence[str] | None = None) -> int:
    """Print the shares for a corpus as JSON."""
    parser = argparse.ArgumentParser(prog="python -m lalm.evaluate.hearing", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("root", type=Path, help="folder of the corpus")
    parser.add_argument("--corpus", default="barista", help="corpus plug-in")
    parser.add_argument("--connector", default="ctc", help="connector plug-in")
    parser.add_argument("--limit", type=int, help="only so many recordings")
    parser.add_argument("--out", type=Path, help="file for what was heard, one JSON row a recording")
    args = parser.parse_args(argv)
    try:
        corpus = plugins.load("corpora", args.corpus)
        cfg = corpus.Config()
        rows = [r for split in ("train", "test") for r in corpus.read(args.root, split, cfg) if r.audio is not None]
        rows = rows[: args.limit]
        texts = transcribe([row.audio for row in rows if row.audio is not None], args.connector)
    except UserError as error:
        print(f"lalm: {error}", file=sys.stderr)
        return 2
    if args.out is not None:
        from lalm.rundir import write_jsonl

        write_jsonl(
            args.out,
            ({"id": row.id, "heard": text, "gold": row.frame.to_json()} for row, text in zip(rows, texts, strict=True)),
        )
    print(json.dumps(hearing(rows, texts), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
