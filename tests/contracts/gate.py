"""The gate that every object we make must pass: public validators, and own checks of what these do not see.

Each check returns problems in words; none is a pass. dciodvfy does not see a wrong frame of reference, a wrong plane
position, a wrong code meaning, a missing Procedure Reported or Tracking UID, nor a changed patient: the own checks do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from service.domain.finding import Assessment
from tests.contracts.own_of_all import CLASSES, class_is, dangling, meanings, references, same_study
from tests.contracts.own_of_images import captured, on_source_grid, outlined, slices_of, volumes, voxels
from tests.contracts.own_of_reports import (
    explained,
    groups,
    mandatory_rows,
    never_normal,
    no_finding_for_absent,
    regions,
    speakers,
    texts,
)
from tests.contracts.tools import (
    ALLOWED,
    ALLOWED_OF_STATES,
    DCMTK,
    dcentvfy,
    dciodvfy,
    dcmpschk,
    dsrdump,
    read_by_dcmqi,
    read_by_highdicom,
)

__all__ = [
    "CHECKS", "CLASSES", "DCMTK", "dcentvfy", "dciodvfy", "dsrdump", "groups", "mandatory_rows", "on_source_grid",
    "problems", "read_by_dcmqi", "read_by_highdicom", "same_study", "texts", "volumes"]


def problems(made: dict[str, list[Path]], sources: Sequence[Path], said: Assessment | None) -> list[str]:
    """Return everything that is wrong with the objects of one study, each line with the name of the check before it.

    made: files by kind (seg, sr, sc, pr, ko).
    """
    files = [path for paths in made.values() for path in paths]
    images = [dcmread(p) for p in sources]
    found = [(f"class_is: {line}") for kind, paths in made.items() for p in paths for line in class_is(dcmread(p), kind)]
    if any("SOP class" in line for line in found):
        return found  # no tool can read it as what it says it is
    study_checks = {"dcentvfy": dcentvfy([*sources, *files])}
    found += [f"{name}: {line}" for name, lines in study_checks.items() for line in lines]
    for kind, paths in made.items():
        for path in paths:
            own = {
                "dciodvfy": dciodvfy(path, ALLOWED_OF_STATES if kind == "pr" else ALLOWED),
                "same_study": same_study(dcmread(path), images[0]), "dangling": dangling(dcmread(path), [*sources, *files]),
                "meanings": meanings(dcmread(path)), **_OF_KIND[kind](path, made, images, [*sources, *files], said)}
            found += [f"{name}: {path.name}: {line}" for name, lines in own.items() for line in lines]
    return found


Found = dict[str, list[str]]


def _of_report(path: Path, made: dict[str, list[Path]], images: Sequence[Dataset], files: Sequence[Path],
               said: Assessment | None) -> Found:
    report = dcmread(path)
    found = {
        "mandatory_rows": mandatory_rows(report), "references": references(report, files),
        "read_by_highdicom": read_by_highdicom(path), "read_by_dcmqi": read_by_dcmqi(path, said), "dsrdump": dsrdump(path)}
    if said is None:
        return found | {"never_normal": never_normal(report)}
    return found | {
        "no_finding_for_absent": no_finding_for_absent(report, said), "speakers": speakers(report, said),
        "regions": regions(report, said, images), "explained": explained(report, made.get("sc", []))}


def _of_segmentation(path: Path, made: dict[str, list[Path]], images: Sequence[Dataset], files: Sequence[Path],
                     said: Assessment | None) -> Found:
    assert said is not None and said.masks is not None
    slices = [one for image in images for one in slices_of(image)]
    return {"on_source_grid": on_source_grid(dcmread(path), slices), "voxels": voxels(path, said),
            "volumes": volumes(path, dcmread(made["sr"][0]), slices)}


_OF_KIND: dict[str, Callable[..., Found]] = {
    "sr": _of_report, "seg": _of_segmentation,
    "sc": lambda path, made, images, files, said: {"captured": captured(dcmread(path), images)},
    "pr": lambda path, made, images, files, said: {"outlined": outlined(dcmread(path), images), "dcmpschk": dcmpschk(path)},
    "ko": lambda path, made, images, files, said: {"references": references(dcmread(path), files), "dsrdump": dsrdump(path)},
}

CHECKS = (
    "class_is", "dciodvfy", "dcentvfy", "same_study", "dangling", "meanings", "mandatory_rows", "references",
    "read_by_highdicom", "read_by_dcmqi", "dsrdump", "never_normal", "no_finding_for_absent", "speakers", "regions",
    "explained", "on_source_grid", "voxels", "volumes", "captured", "outlined", "dcmpschk")
"""The name of each check; a fault of the test proves that it catches."""
