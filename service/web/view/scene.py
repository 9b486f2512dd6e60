"""Everything that the viewer of one study shows, and what it asks for piece by piece."""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from service.assemble.geometry import GeometryRules
from service.domain.study import Header
from service.prepare.codestream import FrameDecoder
from service.prepare.frames import frame_headers
from service.store.files import Files
from service.store.images import Kept
from service.web.view.document import NoDocument, Outline, outlines
from service.web.view.heat import NoHeat, as_png, heat_of
from service.web.view.segments import NoSegments, Segments, key_slices
from service.web.view.stacks import Shown, Stack, stacks
from service.web.view.values import WHITE, Volume, Volumes, cut, fitted, load, step_of, values

_SCENES = 8
_CT_WINDOWS = (("Lung", -600, 1500), ("Mediastinum", 40, 400), ("Bone", 500, 2000), ("Wide", 0, 4000))
_GREY_WINDOWS = (("As sent", WHITE // 2, WHITE), ("Dense", WHITE * 5 // 8, WHITE * 3 // 4),
                 ("Lucent", WHITE * 3 // 8, WHITE * 3 // 4), ("Contrast", WHITE // 2, WHITE // 2))
_T = TypeVar("_T")
PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True, eq=False)
class Scene:
    """One study as it is kept now. token: changes with its images and results."""

    study_instance_uid: str
    token: str
    stacks: tuple[Stack, ...]
    segments: Segments | None
    outlines: tuple[Outline, ...]
    captures: tuple[Path, ...]


class Viewer:
    """Makes scenes and pictures. Keeps the scenes and volumes that were looked at last."""

    def __init__(
        self, spool_dir: Files | Path, results_dir: Files | Path, decoder: FrameDecoder, rules: GeometryRules,
    ) -> None:
        """Make a viewer. rules: of the settings, so that the page shows the series that the model read."""
        self._spool, self._results, self._decoder, self._rules = spool_dir, results_dir, decoder, rules
        self._scenes: OrderedDict[str, Scene] = OrderedDict()
        self._lock = threading.Lock()
        self._volumes = Volumes()

    def token(self, kept: Kept) -> str:
        """Return what stands for the state of a study's images and results."""
        return hashlib.sha256(repr(kept.state).encode()).hexdigest()[:16]

    def known(self, token: str) -> Scene | None:
        """Return a scene that was made before."""
        with self._lock:
            return self._scenes.get(token)

    def scene(self, token: str, kept: Kept) -> Scene:
        """Return the scene of a study. kept: with its images."""
        found = self.known(token)
        if found is None:
            found = self._made(token, kept)
            with self._lock:
                self._scenes[token] = found
                while len(self._scenes) > _SCENES:
                    self._scenes.popitem(last=False)
        return found

    def pixels(self, scene: Scene, stack: int, plane: str, index: int) -> bytes:
        """Return a picture as little-endian int16, row by row: see `values.values`.

        Raises: IndexError where there is none; UnusableStudy for damaged pixels; OSError when an image is gone.
        """
        chosen = _at(scene.stacks, stack)
        if plane == "axial":
            image = _at(chosen.images, index)
            return values(self._spool / image.path, image.header, self._decoder).astype("<i2", copy=False).tobytes()
        return cut(self._volume(scene, chosen).hu, plane, index, chosen).astype("<i2", copy=False).tobytes()

    def marks(self, scene: Scene, stack: int, plane: str, index: int) -> bytes:
        """Return what is marked on a picture, zlib: uint8, segment n is the bit 1 << (n - 1); empty where nothing is.

        Raises: as `pixels`.
        """
        chosen = _at(scene.stacks, stack)
        if plane == "axial":
            header = _at(chosen.images, index).header
            found = scene.segments.mask(header) if scene.segments else None
        else:
            volume = self._volume(scene, chosen)
            found = None if volume.marks is None else np.asarray(cut(volume.marks, plane, index, chosen), np.uint8)
        return b"" if found is None else zlib.compress(found.tobytes(), 1)

    def heat(self, scene: Scene, stack: int) -> bytes:
        """Return the saliency of a radiograph as PNG with transparency. Raises: IndexError; NoHeat where there is none."""
        header = _at(_at(scene.stacks, stack).images, 0).header
        for capture in scene.captures:
            with suppress(NoHeat):
                source, heat = heat_of(capture, header.columns or 1, header.rows or 1)
                if source == header.sop_instance_uid:
                    return as_png(heat)
        raise NoHeat("there is no saliency of this image")

    def _volume(self, scene: Scene, stack: Stack) -> Volume:
        if not stack.has_planes:
            raise IndexError("no planes")
        segments = scene.segments

        def make() -> Volume:
            return load(stack, self._spool, self._decoder, segments.mask if segments else lambda _image: None)

        return self._volumes.volume((scene.token, stack.images[0].header.series_instance_uid), make)

    def _frames(self, image: Shown) -> Sequence[Header]:
        return frame_headers(self._spool / image.path, image.header)

    def _made(self, token: str, kept: Kept) -> Scene:
        images = [Shown(path, header) for path, header in kept.images]
        files = {kind: [self._results / path for k, path in kept.results if k == kind] for kind in ("seg", "sr", "sc")}
        found: Segments | None = None
        drawn: list[Outline] = []
        with suppress(NoSegments, IndexError):
            found = Segments(files["seg"][-1])
        with suppress(NoDocument, IndexError):
            drawn = outlines(files["sr"][-1])
        chosen = tuple(stacks(images, self._rules, self._frames))
        return Scene(str(kept.state[1]), token, chosen, found, tuple(drawn), tuple(files["sc"]))


@lru_cache(maxsize=_SCENES)
def described(scene: Scene) -> dict[str, Any]:
    """Return what the page's script needs to know, as JSON types; not to be changed, for it is made once."""
    return {"token": scene.token, "stacks": [_stack(scene, stack) for stack in scene.stacks]}


def _stack(scene: Scene, stack: Stack) -> dict[str, Any]:
    first = stack.images[0].header
    told: dict[str, Any] = {
        "title": stack.title, "ct": stack.ct, "read": stack.read, "letters": stack.letters,
        "windows": [{"name": n, "centre": c, "width": w} for n, c, w in (_CT_WINDOWS if stack.ct else _GREY_WINDOWS)],
        "numbers": [i.header.frame_number or i.header.instance_number for i in stack.images],
        "planes": {"axial": _axial(stack)},
    }
    if stack.ct:
        return told | _marked(scene, stack) | {"planes": _planes(stack)}
    uid = first.sop_instance_uid
    drawn = [{"label": o.label, "points": o.points} for o in scene.outlines if o.sop_instance_uid == uid]
    return told | {"outlines": drawn, "heat": bool(scene.captures) and stack.read, "rows": first.rows, "start": 0}


def _axial(stack: Stack) -> dict[str, Any]:
    first = stack.images[0].header
    width, height = first.columns or 1, first.rows or 1
    if not stack.ct:
        width, height = fitted(width, height)
    spacing = first.pixel_spacing if len(first.pixel_spacing) == 2 else (1.0, 1.0)
    return {"count": len(stack.images), "width": width, "height": height, "mm": [spacing[1], spacing[0]], "step": 1}


def _planes(stack: Stack) -> dict[str, Any]:
    axial = _axial(stack)
    if not stack.has_planes or stack.geometry is None:
        return {"axial": axial}
    step, between = step_of(stack), stack.geometry.spacing_mm[0]
    rows, columns = stack.geometry.rows, stack.geometry.columns

    def plane(across: int, along: int, mm: float) -> dict[str, Any]:
        return {"count": -(-along // step), "width": -(-across // step), "height": len(stack.images),
                "mm": [mm * step, between], "step": step}

    return {"axial": axial | {"between_mm": between},
            "coronal": plane(columns, rows, stack.geometry.spacing_mm[2])
            | {"letters": ["R", "L", "H", "F"], "mirrored": stack.geometry.orientation[0] < 0},
            "sagittal": plane(rows, columns, stack.geometry.spacing_mm[1])
            | {"letters": ["A", "P", "H", "F"], "mirrored": stack.geometry.orientation[4] < 0}}


def _marked(scene: Scene, stack: Stack) -> dict[str, Any]:
    """Say where along a CT each segment lies, and which slices are worth a look first."""
    middle = len(stack.images) // 2
    if scene.segments is None or not stack.read:
        return {"segments": [], "key": [], "start": middle}
    areas = scene.segments.areas([i.header for i in stack.images])
    told = [{"number": s.number, "label": s.label, "colour": s.colour, "finding": s.finding, "areas": areas[s.number]}
            for s in scene.segments.segments if any(areas[s.number])]
    found = [sum(of) for of in zip(*(s["areas"] for s in told if s["finding"]), strict=True)]
    key = key_slices(found)
    largest = max(range(len(found)), key=found.__getitem__) if found else middle
    return {"segments": told, "key": key, "start": largest}


def _at(items: Sequence[_T], index: int) -> _T:
    if index < 0:
        raise IndexError(index)
    return items[index]
