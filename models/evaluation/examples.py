"""Best and worst cases of a bundle as small pictures, of such sources only whose licence permits to show them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.evaluation.bundles import Network
from models.evaluation.class_scores import ClassScores, by_index
from models.evaluation.ct_classes import ClassSlice
from models.evaluation.ct_figures import dice
from models.evaluation.ct_scores import CtScores
from models.evaluation.lung_scores import LungScores
from models.evaluation.pictures import read_grey, read_indices
from models.evaluation.plots import shrunk
from models.evaluation.slices import LESIONS, CtSlice, read_slice
from models.evaluation.tasks import Scores
from service.prepare import ct, cxr

SIDE_PX = 128
EACH = 4
TEXT_PX = 26
SHOWN = {
    "nih": "NIH ChestX-ray14 (Wang et al. 2017), NIH Clinical Center",
    "kermany": "Kermany et al. 2018, CC BY 4.0",
    "coronacases": "COVID-19 CT Lung and Infection Segmentation Dataset (Ma et al. 2020; Coronacases), CC BY-NC-SA",
    "radiopaedia": "COVID-19 CT Lung and Infection Segmentation Dataset (Ma et al. 2020; Radiopaedia), CC BY-NC-SA",
}
"""Attribution of the sources that may be shown, by the first part of their name. All others are never shown."""

Grey = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Example:
    """One picture, (y, x, 3) uint8, with two short lines and its attribution."""

    picture: Grey
    lines: tuple[str, str]
    attribution: str


def attribution_of(source: str) -> str | None:
    """Return the attribution of a source that may be shown; None: it may not."""
    return SHOWN.get(source.partition("-")[0].lower())


def best_and_worst(network: Network, scores: Scores) -> list[Example]:
    """Return up to four worst and four best cases of what may be shown, each of another group."""
    if isinstance(scores, ClassScores):
        return [_of_class(scores, place) for place in _chosen(*_surprise(scores))]
    if isinstance(scores, CtScores):
        lesions = [i for i, s in enumerate(scores.slices) if s.part == LESIONS and attribution_of(s.group)]
        lost = 1.0 - dice(scores, "infection", np.array(lesions, np.intp)) if lesions else np.zeros(0)
        return [_of_slice(network, scores, place)
                for place in _chosen(lost, lesions, [scores.slices[i].group for i in lesions])]
    fields = [i for i, image in enumerate(scores.images) if attribution_of(image.traits["source"])]
    return [_of_fields(network, scores, place) for place in _chosen(
        1.0 - scores.dice[fields], fields, [scores.images[i].group for i in fields])]


def montage(examples: Sequence[Example]) -> bytes:
    """Return one PNG under 60 kB, worst cases first, four in a row, with attribution in its caption; empty without any."""
    if not examples:
        return b""
    rows = -(-len(examples) // EACH)
    page = np.full((rows * (SIDE_PX + TEXT_PX), EACH * SIDE_PX, 3), 255, np.uint8)
    for number, example in enumerate(examples):
        top, left = number // EACH * (SIDE_PX + TEXT_PX), number % EACH * SIDE_PX
        small = fitted(example.picture)
        page[top:top + SIDE_PX, left:left + SIDE_PX] = small
        for line, text in enumerate(example.lines):
            at = (left + 2, top + SIDE_PX + 10 + 12 * line)
            cv2.putText(page, text[:30], at, cv2.FONT_HERSHEY_SIMPLEX, 0.31, (0, 0, 0), 1, cv2.LINE_AA)
    out = io.BytesIO()
    Image.fromarray(page).save(out, "PNG")
    sources = "; ".join(dict.fromkeys(e.attribution for e in examples))
    return shrunk(out.getvalue(), f"Worst cases first, then best ones, made small. Images: {sources}")


def fitted(picture: Grey) -> Grey:
    """Shrink a picture into a square of SIDE_PX, its aspect kept, black around it."""
    scale = SIDE_PX / max(picture.shape[:2])
    rows, columns = (max(1, round(n * scale)) for n in picture.shape[:2])
    small = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
    whole = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    top, left = (SIDE_PX - rows) // 2, (SIDE_PX - columns) // 2
    whole[top:top + rows, left:left + columns] = small
    return whole


def _surprise(scores: ClassScores) -> tuple[NDArray[np.float64], list[int], list[str]]:
    """How far an answer is from the labels, at its worst class, of the images that may be shown."""
    kinds = [getattr(i, "kind", "as it is") for i in scores.images]
    places = [n for n, i in enumerate(scores.images) if kinds[n] == "as it is" and attribution_of(_source(i))
              and (scores.labels[n] >= 0).any()]
    apart = np.where(scores.labels >= 0, np.abs(scores.probabilities - np.maximum(scores.labels, 0)), 0.0)
    return apart[places].max(axis=1, initial=0.0), places, [str(scores.groups[n]) for n in places]


def _chosen(lost: NDArray[np.float64], places: Sequence[int], groups: Sequence[str]) -> list[int]:
    """Pick EACH with most lost, then EACH with least; in neither a group twice, in both no image twice."""
    found: list[int] = []
    for order in (np.argsort(-lost, kind="stable"), np.argsort(lost, kind="stable")):
        seen: set[str] = set()
        for n in order:
            if len(seen) < EACH and groups[n] not in seen and places[n] not in found:
                seen.add(groups[n])
                found.append(places[n])
    return found


def _source(image: Any) -> str:
    if isinstance(image, ClassSlice):
        return image.source.group if image.part == LESIONS else ""
    return str(image.traits["source"])


def _of_class(scores: ClassScores, place: int) -> Example:
    image, labels = scores.images[place], scores.labels[place]
    k = int(np.where(labels >= 0, np.abs(scores.probabilities[place] - labels), -1).argmax())
    name = by_index(scores.manifest)[k].name
    truth = "is" if labels[k] == 1 else "is not"
    return Example(_colours(read_grey(image.path)), (f"{truth} {name}", f"given {scores.probabilities[place, k]:.2f}"),
                   attribution_of(_source(image)) or "")


def _of_slice(network: Network, scores: CtScores, place: int) -> Example:
    item: CtSlice = scores.slices[place]
    plane, labels, shape = read_slice(item, network.manifest)
    found = ct.restore(network.run(plane[np.newaxis, np.newaxis])["probabilities"][0], *shape).argmax(axis=0)
    picture = _colours(read_grey(item.path))
    value = float(dice(scores, "infection", np.array([place]))[0])
    if labels is not None:
        _outline(picture, labels == 2, (0, 255, 0))
    _outline(picture, found == 2, (255, 64, 64))
    return Example(picture, (f"{item.group} {item.path.stem[:3]}", f"Dice {value:.2f} green true"),
                   attribution_of(item.group) or "")


def _of_fields(network: Network, scores: LungScores, place: int) -> Example:
    image = scores.images[place]
    grey = read_grey(image.path)
    tensor = cxr.image_tensor(grey, network.manifest.parameters, network.manifest.steps)
    found = cxr.restore(network.run(tensor)["probabilities"][0], *grey.shape, network.manifest.parameters)
    picture = _colours(grey)
    if image.lung_mask is not None:
        _outline(picture, read_indices(image.lung_mask, grey.shape) > 0, (0, 255, 0))
    _outline(picture, found.argmax(axis=0) > 0, (255, 64, 64))
    return Example(picture, (image.name.rsplit("/", 1)[-1][:24], f"Dice {scores.dice[place]:.2f} green true"),
                   attribution_of(image.traits["source"]) or "")


def _colours(grey: NDArray[np.float32]) -> Grey:
    return np.repeat(np.rint(grey * 255).astype(np.uint8)[:, :, np.newaxis], 3, axis=2)


def _outline(picture: Grey, mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, max(1, round(max(picture.shape[:2]) / SIDE_PX)))
