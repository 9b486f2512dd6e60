"""Write a bundle's card again and put its plots into it; the figures stay those of figures.json."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from models.evaluation.bundles import Network
from models.evaluation.evaluate import Request, gather
from models.evaluation.examples import best_and_worst, montage
from models.evaluation.held_out import CannotTell, figures_of, recipe_of
from models.evaluation.plots import CARD, write_plots
from models.evaluation.problems import Problems
from models.evaluation.score_table import table_of
from models.evaluation.tasks import of as measure_of
from service.domain.manifest import Manifest

BEGIN, END = "<!-- plots: begin -->", "<!-- plots: end -->"
BEFORE = "## Known shortcuts"
NAMES = {"roc": "ROC", "precision-recall": "Precision and recall", "reliability": "Reliability", "confusion": "Confusion",
         "pictures": "Worst and best cases"}


def recard(manifest: Manifest, scores: Path | None = None, data: Path | None = None, threads: int = 0) -> int:
    """Write `MODEL_CARD.md`, and its plots where scores are given; returns 0.

    scores: a table of `score_table`, such as out-of-fold answers; data: a folder whose held-out images are scored now, and
    shown where their licence permits. Raises: CannotTell without recipe, figures, matplotlib or the training code;
    InvalidTable.
    """
    if scores is not None:
        write_plots(manifest.folder, scores, "out-of-fold")
    elif data is not None:
        draw_held_out(manifest, data, threads)
    try:
        from models.training.card import write_card
    except ImportError as error:
        raise CannotTell("cards are written by models/training, which is not here") from error
    figures = figures_of(manifest)
    if "auc" in figures:  # the file is sorted by name, the card goes by the order of the outputs
        figures["auc"] = {o.name: figures["auc"][o.name] for o in manifest.outputs if o.name in figures["auc"]}
    write_card(manifest.folder, recipe_of(manifest), figures)
    link_plots(manifest.folder)
    return 0


def draw_held_out(manifest: Manifest, data: Path, threads: int = 0) -> list[Path]:
    """Score the held-out images of a folder and draw their plots and pictures. Raises: CannotTell; EngineUnavailable."""
    problems, network, request = Problems(), Network(manifest, threads), Request(data, held_out=True)
    scores = measure_of(manifest).score(network, gather(manifest, request, problems), problems)
    if not scores.names:
        raise CannotTell("no held-out image could be scored, so there is nothing to draw")
    shown = montage(best_and_worst(network, scores))
    return write_plots(manifest.folder, table_of(scores), "held out", shown)


def link_plots(folder: Path) -> None:
    """Put the plots of `folder/card/` into `folder/MODEL_CARD.md`, each with its caption, in place of earlier ones."""
    path = folder / "MODEL_CARD.md"
    card = path.read_text(encoding="utf-8")
    if BEGIN in card:
        before, _, rest = card.partition(BEGIN)
        card = before + rest.partition(END)[2].lstrip("\n")
    plots = sorted(folder.glob(f"{CARD}/*.png"), key=_order)
    if plots:
        told = "".join(f"![{_name(p)}]({CARD}/{p.name})\n\n{_caption(p)}.\n\n" for p in plots)
        section = f"{BEGIN}\n## Plots\n\n{told}{END}\n\n"
        at = card.find(BEFORE)
        card = card + "\n" + section if at < 0 else card[:at] + section + card[at:]
    path.write_text(card, encoding="utf-8")


def _order(plot: Path) -> tuple[float, str]:
    names = list(NAMES)
    return (names.index(plot.stem) if plot.stem in names else len(names) - 1.5), plot.stem


def _name(plot: Path) -> str:
    return NAMES.get(plot.stem, plot.stem.replace("-", " ").capitalize())


def _caption(plot: Path) -> str:
    with Image.open(plot) as image:
        return str(image.info.get("Description", _name(plot)))
