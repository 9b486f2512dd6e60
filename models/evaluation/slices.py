"""The CT slices of a data folder: lesion cases, lungs in HU, and slices by class from papers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.evaluation.pictures import Unreadable, read_grey, read_hu, read_indices
from models.evaluation.problems import Problems
from service.domain.manifest import Manifest
from service.prepare import ct
from service.prepare.arguments import run_steps

LESIONS, LUNGS, PAPERS = "ct_lesions", "ct_lungs", "ct_slices"
Plane = NDArray[np.float32]


@dataclass(frozen=True)
class CtSlice:
    """One slice on the disk. group: the case, or the paper; sick: of the class, None where the mask tells it."""

    part: str
    path: Path
    name: str
    group: str
    mask: Path | None
    sick: bool | None = None


def find_slices(data: Path, problems: Problems) -> list[CtSlice]:
    """List every slice in order of part, case and name; parts that are not there are noted as absent."""
    found = []
    for path in sorted(data.glob(f"{LESIONS}/*/*-ct.*")):
        mask = path.with_name(path.stem.removesuffix("-ct") + "-mask.png")
        found.append(CtSlice(LESIONS, path, f"{LESIONS}/{path.parent.name}/{path.name}", path.parent.name, mask))
    for path in sorted(data.glob(f"{LUNGS}/*-hu.png")):
        mask = path.with_name(path.name.removesuffix("-hu.png") + "-mask.png")
        found.append(CtSlice(LUNGS, path, f"{LUNGS}/{path.name}", path.name.split("_Z_")[0], mask))
    for path in sorted(p for p in (data / PAPERS).glob("*/*") if p.is_file()):
        kind = path.parent.name
        sick = {"covid": True, "noncovid": False}.get(kind)
        found.append(CtSlice(PAPERS, path, f"{PAPERS}/{kind}/{path.name}", f"{kind} {paper_of(path.stem)}", None, sick))
    problems.absent.extend(part for part in (LESIONS, LUNGS, PAPERS) if all(s.part != part for s in found))
    return found


def paper_of(stem: str) -> str:
    """Return the paper or patient that a file name starts with: before "-p<page>-", or before a slice's number."""
    return re.split(r"-p\d+-|[%_]\d+$", stem, maxsplit=1)[0]


def read_slice(item: CtSlice, manifest: Manifest) -> tuple[Plane, NDArray[np.uint8] | None, tuple[int, int]]:
    """Read and prepare a slice: (h, w) float32 for the network, its labels on the source grid, and that grid's size.

    Labels: 0 none, 1 lung, 2 infection; None for slices by class. Slices in HU go through every step of the manifest.
    Lesion slices already have the look that `stretch` and `equalise` give, so only the steps after these are run. Pictures
    of papers are taken to show the manifest's `window_hu`, and go through every step, as they do where they are trained on;
    where there is none, through those after `resize`. Raises: Unreadable; InvalidManifest.
    """
    if item.part == LUNGS:
        hu = read_hu(item.path)
        labels = (_labels(item, hu.shape, None) > 0).astype(np.uint8)
        return run_steps(hu, manifest.steps, ct.STEPS, manifest.parameters), labels, (hu.shape[0], hu.shape[1])
    grey = read_grey(item.path)
    marked = _labels(item, grey.shape, 2) if item.mask else None
    return _of_grey(grey, item, manifest), marked, (grey.shape[0], grey.shape[1])


def read_plane(item: CtSlice, manifest: Manifest) -> Plane:
    """Read and prepare a slice without its mask: (h, w) float32 for the network. Raises: Unreadable; InvalidManifest."""
    if item.part == LUNGS:
        return run_steps(read_hu(item.path), manifest.steps, ct.STEPS, manifest.parameters)
    return _of_grey(read_grey(item.path), item, manifest)


def _of_grey(grey: Plane, item: CtSlice, manifest: Manifest) -> Plane:
    if item.part == PAPERS and "window_hu" in manifest.parameters:
        return windowed(grey, manifest.steps, manifest.parameters)
    return run_steps(fitted(grey, manifest), _steps_after(manifest, item.part), ct.STEPS, manifest.parameters)


def windowed(grey: Plane, steps: Sequence[str], parameters: Mapping[str, Any]) -> Plane:
    """Spread grey values in 0..1 over the window of a bundle, as if they were HU, and run its steps; (y, x) to (h, w)."""
    low, high = parameters["window_hu"]
    return run_steps(np.float32(low) + grey * np.float32(high - low), steps, ct.STEPS, parameters)


def fitted(grey: Plane, manifest: Manifest) -> Plane:
    """Pad grey values to a square with their darkest and resize to the manifest's `side_px`, as the steps do with HU."""
    rows, columns = grey.shape
    side = max(rows, columns)
    top, left = (side - rows) // 2, (side - columns) // 2
    whole = np.full((side, side), grey.min(), np.float32)
    whole[top:top + rows, left:left + columns] = grey
    wanted = int(manifest.parameters.get("side_px", side))
    if wanted == side:
        return whole
    rule = cv2.INTER_AREA if side > 2 * wanted else cv2.INTER_CUBIC
    resized: Plane = np.clip(cv2.resize(whole, (wanted, wanted), interpolation=rule), 0.0, 1.0)
    return resized


def looks_like_lesions(manifest: Manifest) -> bool:
    """Tell whether the bundle's steps end as the lesion slices were made: stretched, then equalised."""
    return manifest.steps[-2:] == ("stretch", "equalise")


def _labels(item: CtSlice, shape: tuple[int, ...], largest: int | None) -> NDArray[np.uint8]:
    if item.mask is None:
        raise Unreadable("missing mask")
    return read_indices(item.mask, shape, largest)


def _steps_after(manifest: Manifest, part: str) -> tuple[str, ...]:
    last = "equalise" if part == LESIONS else "resize"
    return manifest.steps[manifest.steps.index(last) + 1:] if last in manifest.steps else ()
