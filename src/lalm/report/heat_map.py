"""The language matrix as a figure: a row a way of training, a column a test language, a panel what is heard and what is read."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from lalm.languages import name
from lalm.report.figures import STYLE, svg
from lalm.report.folder import StudyFolder
from lalm.report.languages import columns, lines
from lalm.report.words import metric

_TITLES = {"speech": "heard", "text": "read"}


def language_matrix(study: StudyFolder) -> str | None:
    """The heat map of the primary metric; None where all is in one language. Values stand in the fields."""
    found = lines(study)
    if not found:
        return None
    one = metric(study.primary, study.results.metrics)
    keys = columns(found)
    modalities = list(dict.fromkeys(modality for _, modality in keys))
    values = [
        [one.scale * cell.value if (cell := line.cells.get(key)) and cell.value is not None else np.nan for key in keys]
        for line in found
    ]
    grid = np.array(values, dtype=float)  # [lines, columns]
    known = grid[np.isfinite(grid)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    colours = matplotlib.colormaps["cividis" if one.higher_is_better else "cividis_r"].with_extremes(bad="#F0F0F0")
    with matplotlib.rc_context({**STYLE, "font.size": 9}):
        width_in = max(6.0, 1.7 + 0.62 * len(keys))  # of narrow columns, names lean over
        figure = Figure(figsize=(width_in, 1.3 + 0.34 * len(found)), layout="constrained")
        widths = [sum(modality == own for _, own in keys) for modality in modalities]
        panels = figure.subplots(1, len(modalities), sharey=True, squeeze=False, width_ratios=widths)[0]
        for axes, modality in zip(panels, modalities, strict=True):
            own = [place for place, key in enumerate(keys) if key[1] == modality]
            part = grid[:, own]
            axes.imshow(np.ma.masked_invalid(part), cmap=colours, vmin=low, vmax=high, aspect="auto")
            for (row, column), value in np.ndenumerate(part):
                dark = (value - low) / ((high - low) or 1.0) < 0.55
                ink = "white" if dark == one.higher_is_better else "black"
                shown = "–" if np.isnan(value) else one.number(value / one.scale)
                axes.text(column, row, shown, ha="center", va="center", color="#555555" if np.isnan(value) else ink)
            lean = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if len(keys) > 4 else {}
            axes.set_xticks(range(len(own)), [name(keys[place][0]) for place in own], **lean)
            axes.set_title(_TITLES[modality], fontsize=9, loc="left")
            axes.tick_params(length=0)
            for spine in axes.spines.values():
                spine.set_visible(False)
        panels[0].set_yticks(range(len(found)), [line.label for line in found])
        return svg(figure, "languages", f"{one.title} by what was trained on and the language of the test")
