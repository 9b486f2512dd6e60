"""Is anything in two parts of a split? Patients, groups, CT cases, papers, and pictures that are nearly the same.

Called before training starts, with the names of the data: `check_split(data, {"training": [...], "test": [...]})`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.evaluation.pictures import Unreadable, read_any
from models.evaluation.problems import Problems
from models.evaluation.radiographs import read_rows
from models.evaluation.slices import find_slices

THUMBNAIL_PX = 32
LEAST_CORRELATION = 0.98
SHOWN = 10
_BLOCK = 512


class Leakage(ValueError):
    """A split that is not clean, or cannot be checked; the text names what is on both sides."""


@dataclass(frozen=True)
class Member:
    """One picture. belongs: what may not be torn apart, such as "patient 17", "group covid-3", "case coronacases-01"."""

    name: str
    belongs: tuple[str, ...]
    path: Path


@dataclass(frozen=True)
class Leak:
    """One thing in two parts. why: "patient 17" or the like, or "near-duplicate, correlation 0.991"."""

    one: str
    other: str
    why: str


def members_of(data: Path) -> dict[str, Member]:
    """List every picture of a data folder by its name: `file` of labels.csv, or the path of a CT slice in the folder.

    A CT case and a paper are a group, as a patient is.
    """
    problems, found = Problems(), {}
    for row in read_rows(data, problems):
        belongs = tuple(f"{key} {row[key]}" for key in ("patient", "group") if row.get(key))
        found[row["file"]] = Member(row["file"], belongs, data / "cxr" / row["file"])
    for item in find_slices(data, problems):
        found[item.name] = Member(item.name, (f"{item.part} {item.group}",), item.path)
    return found


def check_split(
    data: Path, parts: Mapping[str, Sequence[str]], least_correlation: float = LEAST_CORRELATION,
) -> None:
    """Compare every part of a split with every other one.

    data: the folder; parts: names of pictures, or of whole CT cases, by part ("training", "validation", "test", or one
    for each fold). Near-duplicates are pictures whose thumbnails of 32 x 32 correlate by more than `least_correlation`.
    Raises: Leakage when anything is in two parts, when a name is not in the data, or a picture cannot be read.
    """
    leaks = find_leaks(data, parts, least_correlation)
    if leaks:
        told = "; ".join(f"{leak.one} and {leak.other} ({leak.why})" for leak in leaks[:SHOWN])
        more = f"; and {len(leaks) - SHOWN} more" if len(leaks) > SHOWN else ""
        raise Leakage(f"the split leaks in {len(leaks)} place{'s' if len(leaks) > 1 else ''}: {told}{more}")


def find_leaks(
    data: Path, parts: Mapping[str, Sequence[str]], least_correlation: float = LEAST_CORRELATION,
) -> list[Leak]:
    """Return everything that is in two parts, shared patients and groups first. Raises: Leakage; see check_split."""
    known = members_of(data)
    sides = {part: _resolved(names, known) for part, names in parts.items()}
    thumbs = {part: thumbnails(members) for part, members in sides.items()}
    leaks: list[Leak] = []
    for one, other in combinations(sides, 2):
        shared = _shared(sides[one], sides[other])
        leaks = [*shared, *leaks]
        for i, j, value in _alike(thumbs[one], thumbs[other], least_correlation):
            a, b = sides[one][i], sides[other][j]
            if not set(a.belongs) & set(b.belongs):
                leaks.append(Leak(f"{one} {a.name}", f"{other} {b.name}", f"near-duplicate, correlation {value:.3f}"))
    return leaks


def near_duplicates(
    data: Path, names: Sequence[str], least_correlation: float = LEAST_CORRELATION,
) -> list[tuple[str, str, float]]:
    """Return pairs of nearly the same pictures that share no patient or group: (name, name, correlation).

    A splitter joins their groups before it deals them out. Raises: Leakage; see check_split.
    """
    members = _resolved(names, members_of(data))
    thumbs = thumbnails(members)
    return [(members[i].name, members[j].name, value) for i, j, value in _alike(thumbs, thumbs, least_correlation)
            if i < j and not set(members[i].belongs) & set(members[j].belongs)]


def thumbnails(members: Iterable[Member]) -> NDArray[np.float32]:
    """Return thumbnails with mean 0 and length 1, so that a product is a correlation: (n, 1024).

    A picture of one grey value is 0 and like nothing. Raises: Leakage when a picture cannot be read.
    """
    found = []
    for member in members:
        try:
            picture = read_any(member.path)
        except Unreadable as error:
            raise Leakage(f"{member.name} cannot be compared: {error}") from error
        small = cv2.resize(picture, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA).ravel()
        small = small - small.mean()
        length = float(np.linalg.norm(small))
        found.append(small / length if length > 0 else small)
    return np.array(found, np.float32).reshape(len(found), THUMBNAIL_PX**2)


def _resolved(names: Sequence[str], known: Mapping[str, Member]) -> list[Member]:
    """Look the names up; the name of a CT case stands for all its slices."""
    cases: dict[str, list[Member]] = {}
    for name, member in known.items():
        if name.startswith("ct_lesions/"):
            cases.setdefault(name.split("/")[1], []).append(member)
    found = []
    for name in names:
        if name in known:
            found.append(known[name])
        elif name in cases:
            found += cases[name]
        else:
            raise Leakage(f"{name!r} of the split is neither a picture nor a CT case of this data")
    return found


def _shared(one: Sequence[Member], other: Sequence[Member]) -> list[Leak]:
    owners = {key: member for member in one for key in (f"picture {member.name}", *member.belongs)}
    found = {}
    for member in other:
        for key in (f"picture {member.name}", *member.belongs):
            if key in owners and key not in found:
                found[key] = Leak(owners[key].name, member.name, f"both {key}")
    return list(found.values())


def _alike(
    one: NDArray[np.float32], other: NDArray[np.float32], least: float,
) -> list[tuple[int, int, float]]:
    found = []
    for first in range(0, len(one), _BLOCK):
        values = one[first:first + _BLOCK] @ other.T
        for i, j in np.argwhere(values > least):
            found.append((first + int(i), int(j), float(values[i, j])))
    return found
