"""What a careful reader would want to be told without asking."""

from __future__ import annotations

from lalm.report.folder import StudyFolder
from lalm.report.signs import study_signs
from lalm.report.standings import Standings
from lalm.report.words import capital, share, where

MANY_FAILED = 0.05
WIDE = 0.04  # half of an interval
MANY_COMPARISONS = 20


def remarks(standings: Standings) -> list[str]:
    """Remarks on answers that could not be read, on uncertainty, on schemes that lose, signs of harm, and how runs were made."""
    study = standings.study
    return [
        *_failed(study),
        *_uncertain(standings),
        *_losing(standings),
        *_falling(standings),
        *_freely(standings),
        *study_signs(standings),
        *_references(study),
        *_mixed_origins(study),
    ]


def _failed(study: StudyFolder) -> list[str]:
    found = []
    for curve in study.results.curves:
        for point in curve.own:
            total, failed = sum(point.status.values()), point.status.get("failed", 0)
            if total and failed / total > MANY_FAILED and curve.role != "oracle_text":
                found.append((failed / total, f"{curve.name} at {where(point)}: {failed} of {total}"))
    if not found:
        return []
    found.sort(reverse=True)
    more = f", and {len(found) - 3} more" if len(found) > 3 else ""
    listed = "; ".join(text for _, text in found[:3])
    return [
        f"Many answers could not be read and count as wrong ({listed}{more}). More training steps or a larger model may help."
    ]


def _uncertain(standings: Standings) -> list[str]:
    study, metric, result = standings.study, standings.metric, []
    scores = [p.metrics[metric.name] for c in study.cells for p in c.own if metric.name in p.metrics]
    halves = [(s.high - s.low) / 2 for s in scores if s.high is not None and s.low is not None]
    if halves and metric.scale == 100 and max(halves) > WIDE:
        result.append(
            f"The test set has {scores[0].n} utterances, so intervals reach ±{100 * max(halves):.0f} points. "
            f"Four times as many would halve them."
        )
    perfect = [s for s in scores if s.n and s.low is not None and s.low == s.high]
    if perfect and metric.scale == 100:
        result.append(
            f"An interval without width says only that all {perfect[0].n} test utterances came out alike: "
            f"of others, up to {round(min(100.0, 300 / perfect[0].n), 1):g} % may still differ."
        )
    seeds = {len(point.runs) for curve in study.cells for point in curve.own}
    if seeds == {1}:
        result.append(
            "There is one seed, so how much another draw of recordings or another start would change is not known."
        )
    compared = len(study.results.comparisons)
    if compared >= MANY_COMPARISONS:
        result.append(
            f"{compared} differences are judged one by one; about one in twenty would look decided by chance alone."
        )
    return result


def _losing(standings: Standings) -> list[str]:
    """Schemes that had recordings and are worse than text alone."""
    lost = []
    for curve in standings.study.cells:
        text = standings.text_only(curve)
        for point in curve.own:
            found = standings.between(point, text.point) if text and point.num_speech else None
            if found is not None and found.verdict == "worse":
                lost.append(f"{curve.name} at {where(point)} ({standings.metric.signed(found.value)})")
    return [f"Worse than text alone in spite of its recordings: {'; '.join(lost)}."] if lost else []


def _falling(standings: Standings) -> list[str]:
    """Schemes whose value with all recordings lies below that with fewer, outside both intervals."""
    result = []
    for curve in standings.study.cells:
        points = [point for point in curve.own if standings.value(point) is not None]
        if len(points) < 2:
            continue
        top, last = max(points, key=standings.rank), points[-1]
        name = standings.metric.name
        a, b = top.metrics[name], last.metrics[name]
        if a.low is None or a.high is None or b.low is None or b.high is None or top is last:
            continue
        if a.low > b.high or a.high < b.low:
            result.append(
                f"{capital(curve.name)} is best at {share(top.speech_share)} of the recordings and gets worse with more."
            )
    return result


def _freely(standings: Standings) -> list[str]:
    """Comparisons that are decided otherwise by the answers that the same runs gave without the grammar."""
    obeying = {(one.a, one.b): one.verdict for one in standings.study.results.comparisons}
    found = [
        f"{one.a.replace('_', ' ')} is {one.verdict} than {one.b.replace('_', ' ')} ({standings.metric.signed(one.difference)})"
        for one in standings.study.results.free_comparisons
        if one.verdict != "undecided" and one.verdict != obeying.get((one.a, one.b))
    ]
    more = f", and {len(found) - 4} more" if len(found) > 4 else ""
    return [f"Decided otherwise by free answers, without the grammar: {'; '.join(found[:4])}{more}."] if found else []


def _references(study: StudyFolder) -> list[str]:
    return [
        f"There is no {row.name.replace('_', ' ')} reference: {row.reason or 'no reason is given'}."
        for row in study.results.references
        if row.metrics is None
    ]


def _mixed_origins(study: StudyFolder) -> list[str]:
    """Runs of one study that were made by different versions, machines or states of the code."""
    result = []
    for what, key in (("versions", "versions"), ("machines", "hardware"), ("states of the code", "git")):
        found = {str(info.get(key)) for info in study.infos.values()}
        if len(found) > 1:
            result.append(f"The runs were made with {len(found)} different {what}; the list below names them.")
    missing = len(set(study.runs()) - set(study.infos))
    if missing:
        result.append(f"{missing} run folders hold no run.json, so how those runs were made is not shown.")
    return result
