"""Who stands where: scores of schemes at each share, and the paired comparisons that decide between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from lalm.report.folder import StudyFolder
from lalm.report.rows import Comparison, Curve, Point
from lalm.report.words import Metric, metric


@dataclass(frozen=True)
class Side:
    """A scheme (or reference) at a share."""

    curve: Curve
    point: Point


@dataclass(frozen=True)
class Difference:
    """A paired difference as seen from one side: `better`, `worse` or `undecided`."""

    value: float
    low: float
    high: float
    verdict: str


class Standings:
    """Looks up scores and comparisons of a study in its primary metric."""

    def __init__(self, study: StudyFolder) -> None:
        self.study = study
        self.metric: Metric = metric(study.primary, study.results.metrics)
        self._sides = {
            run: Side(curve, point)
            for curve in study.results.curves
            if curve.role != "oracle_text"
            for point in curve.own
            for run in point.runs
        }
        self._compared = {
            (self._first(c.a_runs, c.a), self._first(c.b_runs, c.b)): c
            for c in study.results.comparisons
            if c.metric == study.primary
        }

    @staticmethod
    def _first(runs: Sequence[str], name: str) -> str:
        return runs[0] if runs else name

    def sides(self, comparison: Comparison) -> tuple[Side | None, Side | None]:
        """What a comparison compares; None for a run that the cells do not hold."""
        a, b = self._first(comparison.a_runs, comparison.a), self._first(comparison.b_runs, comparison.b)
        return self._sides.get(a), self._sides.get(b)

    def value(self, point: Point) -> float | None:
        """A point's value in the primary metric."""
        score = point.metrics.get(self.metric.name)
        return score.value if score is not None else None

    def rank(self, point: Point) -> float:
        """Larger is better, whatever the metric."""
        value = self.value(point)
        return float("-inf") if value is None else value if self.metric.higher_is_better else -value

    def between(self, a: Point, b: Point) -> Difference | None:
        """a - b, if the study compared them."""
        for first, second, sign in ((a, b, 1), (b, a, -1)):
            found = self._compared.get((first.runs[0], second.runs[0]))
            if found is None or found.difference is None or found.low is None or found.high is None:
                continue
            if sign > 0:
                return Difference(found.difference, found.low, found.high, found.verdict)
            turned = {"better": "worse", "worse": "better"}.get(found.verdict, found.verdict)
            return Difference(-found.difference, -found.high, -found.low, turned)
        return None

    def text_only(self, like: Curve | None = None) -> Side | None:
        """Text alone without synthetic speech, if the study has it; of the variant and all else that `like` was trained with."""
        found = [c for c in self.study.cells if c.scheme == "text_only" and c.own[0].num_speech == 0]
        if like is not None:
            found = [curve for curve in found if curve.trait("variant") == like.trait("variant")]
            found.sort(key=lambda curve: sum(curve.trait(key) != like.trait(key) for key in ("tuner", "connector")))
        found.sort(key=lambda curve: curve.synthetic)
        return Side(found[0], found[0].own[0]) if found else None

    def at(self, share: float, role: str = "cell") -> list[Side]:
        """The schemes (or references) at a share, best first; those without a value are left out."""
        sides = [
            Side(c, p)
            for c in self.study.of_role(role)
            for p in c.own
            if p.speech_share == share and self.value(p) is not None
        ]
        return sorted(sides, key=lambda side: -self.rank(side.point))

    def with_speech(self) -> list[Curve]:
        """The schemes measured at most shares above 0, the best of them first by their mean over the shares they have in
        common; before them those of fewer shares that clearly beat the best of these with all its recordings."""
        shares = {
            c.label: {p.speech_share for p in c.own if p.num_speech and self.value(p) is not None}
            for c in self.study.cells
        }
        most = max(map(len, shares.values()), default=0)
        found = [c for c in self.study.cells if most and len(shares[c.label]) == most]
        common = set.intersection(*(shares[c.label] for c in found)) if found else set()

        def rank(curve: Curve) -> float:
            points = [p for p in curve.own if p.speech_share in common] or list(curve.own)
            return mean(self.rank(point) for point in points)

        found.sort(key=rank, reverse=True)
        return [*self._winners_of_fewer_shares(found), *found] if found else []

    def _winners_of_fewer_shares(self, ranked: Sequence[Curve]) -> list[Curve]:
        """Schemes that are not ranked and better than the first of these where it has most recordings, the best first."""
        full = max(ranked[0].own, key=lambda point: point.num_speech)
        sides = [side for side in self.at(full.speech_share) if side.point.num_speech and side.curve not in ranked]
        compared = [(side.curve, self.between(side.point, full)) for side in sides]
        return [curve for curve, found in compared if found is not None and found.verdict == "better"]

    def winners(self) -> list[tuple[Side, list[Side], list[Side]]]:
        """For each share with several schemes: the leader, whom it clearly beats there, and whom it does not."""
        result = []
        for share, _ in self.study.shares:
            sides = self.at(share)
            if len(sides) < 2:
                continue
            leader, *others = sides
            beaten = [s for s in others if (d := self.between(leader.point, s.point)) and d.verdict == "better"]
            result.append((leader, beaten, [side for side in others if side not in beaten]))
        return result
