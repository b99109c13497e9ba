"""The pages: one self-contained HTML file each, from templates with every value escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lalm import __version__, plugins
from lalm.report import figures
from lalm.report.ablations import task_gains
from lalm.report.both_ways import grammar_table
from lalm.report.conclusion import conclude
from lalm.report.dialogues import runs_dialogues, study_dialogues
from lalm.report.folder import StudyFolder
from lalm.report.gap import runs_gap, study_gap
from lalm.report.heat_map import language_matrix
from lalm.report.languages import language_comparison_table, language_table, worth, worth_words
from lalm.report.listen import shown_examples
from lalm.report.made import licences, link, made, number, provenance
from lalm.report.more import gain_table, more_speech
from lalm.report.of_tasks import runs_tasks, study_tasks
from lalm.report.remarks import remarks
from lalm.report.robustness import UnderNoise, noise_figure, noise_table, runs_under_noise, study_under_noise
from lalm.report.rows import Cell
from lalm.report.runs import RunFolder, comparisons, run_tables
from lalm.report.signs import run_signs
from lalm.report.standings import Standings
from lalm.report.tables import Table, comparison_table, free_comparison_table, study_tables
from lalm.report.words import duration, metric, recordings, share

_TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values: Any) -> str:
    """A page from its template and the style that all of them share."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(version=__version__, style=Markup(style), **values)


def _drawn(svg: str | None) -> Markup | None:
    """A figure of ours, which is markup already."""
    return Markup(svg) if svg is not None else None


def study_page(study: StudyFolder, page: Path) -> str:
    """The report of a study, to be written to `page` (links to the runs start there)."""
    standings = Standings(study)
    more = more_speech(standings)
    primary, *others = study_tables(study)
    cost = others.pop()
    examples, examples_note = shown_examples(study)
    drawn = more.curve is not None and more.curves is not None
    return render(
        "study.html.j2",
        title=study.results.title,
        question=study.results.question,
        conclusion=conclude(standings, more),
        metric=standings.metric,
        metrics=[metric(name, study.results.metrics) for name in study.results.cells[0].metrics],
        seeds=len({cell.seed for cell in study.results.cells}),
        curves=_drawn(figures.learning_curves(study)),
        other_curves=_drawn(figures.other_metrics(study)),
        primary=primary,
        others=others,
        cost=cost,
        both_ways=grammar_table(study),
        free_comparisons=free_comparison_table(study),
        winners=list(_winners(standings)),
        cascades=bool(study.of_role("cascade")),
        comparisons=comparison_table(study),
        more=more,
        gains=gain_table(standings, more),
        gain_curve=_drawn(figures.gain_curve(study, more.curve, more.curves) if drawn else None),  # type: ignore[arg-type]
        noises=_noises([noise] if (noise := study_under_noise(study)) is not None else []),
        gap=study_gap(study),
        dialogues=study_dialogues(study),
        languages=_languages(study),
        tasks=study_tasks(study),
        task_gains=task_gains(standings),
        examples=examples,
        examples_note=examples_note,
        remarks=remarks(standings),
        made=made(study),
        schemes=_scheme_words(study),
        runs=list(_runs(study, page)),
        study_yaml=study.study_yaml,
    )


def _languages(study: StudyFolder) -> dict[str, Any] | None:
    """The language matrix as a figure and a table, comparisons by language, and what recordings are worth, in sentences."""
    table = language_table(study)
    if table is None:
        return None
    one = metric(study.primary, study.results.metrics)
    return {
        "table": table,
        "figure": _drawn(language_matrix(study)),
        "comparisons": language_comparison_table(study),
        "worth": [worth_words(found, one) for found in worth(study)],
    }


def _noises(found: Sequence[UnderNoise]) -> list[tuple[UnderNoise, Markup | None, Table]]:
    """Each with its figure and its table."""
    return [(one, _drawn(noise_figure(one, f"noise{i}")), noise_table(one)) for i, one in enumerate(found)]


@dataclass(frozen=True)
class _Winner:
    where: str
    leader: str
    value: str
    beaten: list[str]
    open: list[str]
    cascade: str | None
    cascade_range: str


def _winners(standings: Standings) -> Iterator[_Winner]:
    one = standings.metric
    for leader, beaten, left in standings.winners():
        point = leader.point
        cascades = standings.at(point.speech_share, "cascade")
        found = standings.between(point, cascades[0].point) if cascades else None
        yield _Winner(
            f"{recordings(point.num_speech)} ({share(point.speech_share)})",
            leader.curve.name,
            one.shown(standings.value(point)),
            [side.curve.name for side in beaten],
            [side.curve.name for side in left],
            found.verdict if found else None,
            f"{one.signed(found.value)} ({one.signed(found.low)} to {one.signed(found.high)})" if found else "",
        )


def _scheme_words(study: StudyFolder) -> list[tuple[str, str]]:
    """Each scheme in a sentence, from the results or from the plug-in."""
    known = plugins.names("schemes")
    found = []
    for name in dict.fromkeys(cell.scheme for cell in study.results.cells):
        words = study.results.schemes.get(name) or (plugins.summary("schemes", name) if name in known else "")
        found.append((name.replace("_", " "), words.partition(": ")[2] or words))
    found += [(f"selector {name}", words) for name, words in study.results.selectors.items()]
    return [(name, words[:1].upper() + words[1:]) for name, words in found if words]


def _runs(study: StudyFolder, page: Path) -> Iterator[dict[str, Any]]:
    """Every run with its values, seeds apart."""
    rows: list[tuple[Cell, str]] = [(cell, cell.scheme) for cell in study.results.cells]
    for reference in study.results.references:
        if reference.name == "cascade" and reference.metrics is not None:
            rows.append((Cell.model_validate(reference.model_dump()), f"cascade ({reference.model_extra['scheme']})"))  # type: ignore[index]
    for cell, scheme in rows:
        scores = {name: (metric(name, study.results.metrics), score) for name, score in cell.metrics.items()}
        yield {
            "name": scheme.replace("_", " ")
            + (f", selector {cell.selector}" if cell.selector else "")
            + (", synthetic speech" if cell.synthetic else ""),
            "share": share(cell.speech_share),
            "num_speech": cell.num_speech,
            "seed": cell.seed,
            "values": [
                one.number(score.value) + (f" ({one.range(score)})" if score.low is not None else "")
                for one, score in scores.values()
            ],
            "status": " / ".join(str(cell.status.get(word, "–")) for word in ("ok", "repaired", "failed")),
            "duration": duration(cell.seconds),
            "hash": cell.config_hash,
            "run": cell.run,
            "link": link(page, study.root / cell.run) if study.inside(cell.run) else None,
        }


def run_page(runs: Sequence[RunFolder], page: Path) -> str:
    """The report of one or several runs."""
    infos = [run.info for run in runs]
    losses = [(run, figures.loss_curve(run.log, f"loss{number}", run.name)) for number, run in enumerate(runs)]
    return render(
        "runs.html.j2",
        title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs",
        runs=[(run, link(page, run.root), _run_facts(run)) for run in runs],
        tables=run_tables(runs),
        incomparable=[one for one in comparisons(runs) if one.reason],
        losses=[(run, _drawn(svg)) for run, svg in losses],
        noises=_noises(runs_under_noise(runs)),
        gap=runs_gap(runs),
        dialogues=runs_dialogues(runs),
        tasks=runs_tasks(runs),
        remarks=run_signs(runs),
        licence_rows=licences(infos),
        facts=[(name, value) for name, value in provenance(infos) if value],
    )


def _run_facts(run: RunFolder) -> str:
    info = run.info
    parts = [
        f"seed {info['seed']}" if "seed" in info else "",
        f"{info['num_text']} text rows" if info.get("num_text") else "",
        recordings(int(heard)) if (heard := number(info, "num_speech")) is not None else "",
        duration(seconds) if (seconds := number(info, "seconds")) is not None else "",
        f"recipe {info['config_hash']}" if "config_hash" in info else "",
        f"finished {info['finished']}" if "finished" in info else "",
    ]
    return ", ".join(part for part in parts if part)
