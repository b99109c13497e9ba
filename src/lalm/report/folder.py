"""A study folder read and checked: what the report needs, and nothing from anywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lalm import plugins
from lalm.data.predictions import read_predictions
from lalm.errors import DataError, UserError
from lalm.report.rows import Curve, Results
from lalm.rundir import RunDir, read_json
from lalm.study.curves import curves


@dataclass(frozen=True)
class StudyFolder:
    """A study's results and what its runs say of themselves (`infos`: run -> `run.json`, for the runs that have one)."""

    root: Path
    results: Results
    primary: str
    infos: Mapping[str, Mapping[str, Any]]
    study_yaml: str | None

    @property
    def cells(self) -> list[Curve]:
        """The curves of the schemes."""
        return self.of_role("cell")

    def of_role(self, role: str) -> list[Curve]:
        """The curves of `cell`, `cascade` or `oracle_text`."""
        return [curve for curve in self.results.curves if curve.role == role]

    @property
    def shares(self) -> list[tuple[float, list[int]]]:
        """All (share, numbers of recordings), rising: variants may have other numbers at one share."""
        found: dict[float, set[int]] = {}
        for curve in self.results.curves:
            for point in curve.points:
                found.setdefault(point.speech_share, set()).add(point.num_speech)
        return [(share, sorted(numbers)) for share, numbers in sorted(found.items())]

    def runs(self) -> Iterator[str]:
        """Every run named, schemes first."""
        yield from (cell.run for cell in self.results.cells)
        for reference in self.results.references:
            run = (reference.model_extra or {}).get("run")
            if run is not None and reference.name == "cascade":
                yield run

    def inside(self, name: str) -> Path | None:
        """A path that the results name, if it is in the study folder and there; the report shows nothing from elsewhere."""
        path = self.root / name
        return path if path.exists() and path.resolve().is_relative_to(self.root.resolve()) else None

    def predictions(self, run: str) -> dict[str, dict[str, Any]]:
        """Rows of a run's test predictions by id; empty if they are not there or damaged."""
        path = self.inside(f"{run}/predictions/test.jsonl")
        try:
            return {row["id"]: row for row in read_predictions(path)} if path is not None else {}
        except DataError:
            return {}


def is_study(folder: Path) -> bool:
    """Whether a folder holds a study, finished or not."""
    return any((folder / name).is_file() for name in ("results.json", "plan.json", "study.yaml"))


def load_study(root: Path) -> StudyFolder:
    """The study of a folder. Raises UserError for an unfinished study and for results that are damaged or incomplete."""
    path = root / "results.json"
    if not path.is_file():
        raise UserError(_unfinished(root))
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: is no results file: an object is needed, this is a {type(value).__name__}.")
    results = plugins.parse(Results, value, str(path))
    primary = results.primary_metric or next(iter(results.cells[0].metrics), None)
    if primary is None or all(primary not in cell.metrics for cell in results.cells):
        known = sorted({name for cell in results.cells for name in cell.metrics})
        raise DataError(f"{path}: primary_metric '{primary}' is none of the metrics scored ({', '.join(known)}).")
    if not results.curves:
        made = _curves(path, value, primary)
        results = results.model_copy(update={"curves": tuple(Curve.model_validate(one) for one in made)})
    study_yaml = root / "study.yaml"
    folder = StudyFolder(root, results, primary, {}, None)
    text = study_yaml.read_text(encoding="utf-8", errors="replace") if study_yaml.is_file() else None
    infos = {run: info for run in folder.runs() if (info := _info(folder, run)) is not None}
    return StudyFolder(root, results, primary, infos, text)


def _curves(path: Path, value: Mapping[str, Any], primary: str) -> Sequence[Mapping[str, Any]]:
    """Curves of a results file that holds cells and references alone."""
    try:
        return curves(value["cells"], value["references"], primary)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: a reference lacks a field that its cells have ({error}).") from None


def _unfinished(root: Path) -> str:
    plan = root / "plan.json"
    if not plan.is_file():
        return f"{root}: holds no results.json, so there is nothing to report yet. It is written when a study ends."
    planned = read_json(plan).get("runs", [])
    done = sum(RunDir(root / "runs" / run["name"]).scores("test").is_file() for run in planned)
    return (
        f"{root}: the study has not ended ({done} of {len(planned)} runs are done), so there is no results.json yet. "
        f"Go on with: lalm study STUDY.yaml --out {root}"
    )


def _info(folder: StudyFolder, run: str) -> Mapping[str, Any] | None:
    path = folder.inside(f"{run}/run.json")
    if path is None:
        return None
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: is no run.json: an object is needed, this is a {type(value).__name__}.")
    return value
