"""The plots of a model card: ROC, precision and recall, reliability, confusion, Dice by case. Needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from models.evaluation.bootstrap import auc
from models.evaluation.held_out import CannotTell
from models.evaluation.score_table import ScoreTable, table_from

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CARD = "card"
MOST_BYTES = 60_000
BINS = 10
MOST_BARS = 70
_COLOURS = (128, 64, 32, 16, 8)
_DPI = 80


def write_plots(
    bundle_folder: Path, scores: Mapping[str, Any] | Path | ScoreTable, said: str = "", montage: bytes = b"",
) -> list[Path]:
    """Draw every plot that a table of scores allows into `bundle_folder/card/` and return the files.

    scores: see `score_table`; said: what the images are, such as "out-of-fold, 5 folds", for the captions; montage: a PNG
    with its captions, from `examples.montage`. Plots that were there are removed first. Each PNG is under 60 kB and
    carries its caption as "Description". Raises: score_table.InvalidTable; CannotTell without matplotlib.
    """
    table = table_from(scores)
    folder = bundle_folder / CARD
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    words = f" ({said})" if said else ""
    written = []
    for name, (draw, caption, size) in _wanted(table).items():
        path = folder / f"{name}.png"
        path.write_bytes(shrunk(_drawn(draw, size), f"{caption}{words}"))
        written.append(path)
    if montage:
        (folder / "pictures.png").write_bytes(montage)
        written.append(folder / "pictures.png")
    return written


def shrunk(png: bytes, caption: str) -> bytes:
    """Return a PNG in as many palette colours as fit into 60 kB, with its caption in it."""
    about = PngInfo()
    about.add_text("Description", caption)
    with Image.open(io.BytesIO(png)) as image:
        plain = image.convert("RGB")
    for colours in _COLOURS:
        out = io.BytesIO()
        plain.quantize(colours).save(out, "PNG", optimize=True, pnginfo=about)
        if out.tell() < MOST_BYTES:
            break
    return out.getvalue()


def _wanted(table: ScoreTable) -> dict[str, tuple[Callable[[Axes], None], str, tuple[float, float]]]:
    """Return drawing, caption and size in inches of each plot, by file name."""
    wanted: dict[str, tuple[Callable[[Axes], None], str, tuple[float, float]]] = {}
    two_sided = [k for k in range(len(table.classes)) if len(np.unique(table.labelled(k)[0])) == 2]
    square = (5.6, 5.0) if len(two_sided) < 8 else (8.0, 5.4)
    if two_sided:
        wanted["roc"] = (lambda axes: _roc(axes, table, two_sided),
                         f"ROC of each class; the dot is the threshold of the manifest. {table.extent}", square)
        wanted["precision-recall"] = (lambda axes: _precision(axes, table, two_sided),
                                      f"Precision and recall of each class; AP is the mean precision. {table.extent}",
                                      square)
        wanted["reliability"] = (lambda axes: _reliability(axes, table),
                                 f"Reliability: how often what is given a probability is so; dots are bins of ten, their "
                                 f"size goes with the number of answers. {table.extent}", (5.0, 4.6))
    if table.exclusive and (_single(table) >= 0).any():
        side = 2.2 + 0.8 * len(table.classes)
        wanted["confusion"] = (lambda axes: _confusion(axes, table),
                               f"Confusion of the images with one known class, {int((_single(table) >= 0).sum())} images: "
                               "rows are the truth, columns the most probable class", (side + 0.8, side))
    for organ, cases in table.dice.items():
        if cases:
            bars = min(len(cases), MOST_BARS)
            left_out = f"; the lowest {MOST_BARS}" if len(cases) > MOST_BARS else ""
            wanted[f"dice-{organ}"] = (
                lambda axes, cases=cases: _dice(axes, cases),  # type: ignore[misc]
                f"Dice of the {organ}, {len(cases)} cases, mean {np.mean(list(cases.values())):.3f}{left_out}",
                (6.0, 0.9 + 0.19 * bars))
    return wanted


def _drawn(draw: Callable[[Axes], None], size: tuple[float, float]) -> bytes:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CannotTell("plots are drawn by matplotlib, which is not installed; pip install -r requirements/train.lock"
                         ) from error
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.add_subplot())
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _roc(axes: Axes, table: ScoreTable, classes: Sequence[int]) -> None:
    for colour, k in enumerate(classes):
        true, score = table.labelled(k)
        hits, alarms = _rates(true, score)
        area = float(auc(score, true)(np.ones((1, len(true))))[0])
        axes.plot(alarms, hits, label=f"{table.classes[k]}  {area:.3f}", **_style(colour))
        if table.thresholds is not None:
            over = score >= table.thresholds[k]
            axes.plot([over[~true].mean()], [over[true].mean()], "o", markersize=4, color=_style(colour)["color"])
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), title="ROC, area")
    _legend(axes, len(classes))


def _precision(axes: Axes, table: ScoreTable, classes: Sequence[int]) -> None:
    for colour, k in enumerate(classes):
        true, score = table.labelled(k)
        recall, precision, mean = precision_recall(true, score)
        axes.step(recall, precision, where="pre", label=f"{table.classes[k]}  AP {mean:.3f}", **_style(colour))
    axes.set(xlabel="recall (sensitivity)", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01),
             title="precision and recall")
    _legend(axes, len(classes))


def _reliability(axes: Axes, table: ScoreTable) -> None:
    if table.exclusive:
        known = _single(table) >= 0
        single = known.any()
        given, so = table.y_score[known].max(axis=1), table.y_score[known].argmax(axis=1) == _single(table)[known]
    if not table.exclusive or not single:
        pairs = [table.labelled(k) for k in range(len(table.classes))]
        so, given = np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])
    middle, share, count = reliability(given, so)
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
    axes.plot(middle, share, color="tab:blue", linewidth=1)
    axes.scatter(middle, share, s=10 + 150 * count / max(count.max(initial=1), 1), color="tab:blue", alpha=0.7)
    error = float((np.abs(middle - share) * count).sum() / max(count.sum(), 1))
    axes.set(xlabel="probability given" if not table.exclusive else "probability of the most probable class",
             ylabel="share that is so", xlim=(0, 1), ylim=(0, 1), title=f"reliability, calibration error {error:.3f}")


def _confusion(axes: Axes, table: ScoreTable) -> None:
    truth = _single(table)
    known = truth >= 0
    k = len(table.classes)
    counts = np.zeros((k, k), int)
    np.add.at(counts, (truth[known], table.y_score[known].argmax(axis=1)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(k, k):
        axes.text(column, row, f"{counts[row, column]}\n{100 * shares[row, column]:.0f} %", ha="center", va="center",
                  fontsize=8, color="white" if shares[row, column] > 0.6 else "black")
    axes.set_xticks(range(k), table.classes, rotation=30, ha="right")
    axes.set_yticks(range(k), table.classes)
    axes.set(xlabel="called", ylabel="true")


def _dice(axes: Axes, cases: Mapping[str, float]) -> None:
    ranked = sorted(cases.items(), key=lambda pair: pair[1])[:MOST_BARS]
    names, values = [n.rsplit("/", 1)[-1] for n, _ in ranked], [v for _, v in ranked]
    axes.barh(range(len(values)), values, color="tab:blue", height=0.7)
    for place, value in enumerate(values):
        axes.text(min(value + 0.01, 0.93), place, f"{value:.2f}", va="center", fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.axvline(float(np.mean(list(cases.values()))), color="0.3", linewidth=0.8, linestyle=":")
    axes.set(xlabel="Dice (dotted: mean)", xlim=(0, 1), ylim=(-0.6, len(names) - 0.4))


def precision_recall(true: NDArray[np.bool_], score: NDArray[np.float64]) -> tuple[Any, Any, float]:
    """Return recall, precision at each distinct score, highest first, and the mean precision; both (m,)."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = np.cumsum(true[order])[last]
    recall, precision = hits / max(int(true.sum()), 1), hits / (last + 1)
    return recall, precision, float(np.sum(np.diff(recall, prepend=0.0) * precision))


def reliability(given: NDArray[np.float64], so: NDArray[np.bool_]) -> tuple[Any, Any, Any]:
    """Return mean probability, share that is so, and number of answers of each bin of ten that holds any."""
    member = np.minimum((given * BINS).astype(int), BINS - 1)
    count = np.bincount(member, minlength=BINS)
    used = count > 0
    middle, share = (np.bincount(member, v, BINS)[used] / count[used] for v in (given, so.astype(float)))
    return middle, share, count[used]


def _single(table: ScoreTable) -> NDArray[np.intp]:
    """The one class that is labelled 1: (n,); -1 where none or several are."""
    positive = table.y_true == 1
    if not positive.size:
        return np.zeros(0, np.intp)
    return np.where(positive.sum(axis=1) == 1, positive.argmax(axis=1), -1)


def _rates(true: NDArray[np.bool_], score: NDArray[np.float64]) -> tuple[Any, Any]:
    """Sensitivity and 1 - specificity at each distinct score, from (0, 0) to (1, 1)."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits, alarms = (np.concatenate([[0], np.cumsum(side[order])[last]]) for side in (true, ~true))
    return hits / max(hits[-1], 1), alarms / max(alarms[-1], 1)


def _style(number: int) -> dict[str, Any]:
    return {"color": f"C{number % 10}", "linestyle": "-" if number < 10 else "--", "linewidth": 1.2}


def _legend(axes: Axes, count: int) -> None:
    if count < 8:
        axes.legend(fontsize=8, loc="best")
    else:
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
