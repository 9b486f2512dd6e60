"""Is a bundle whole? Manifest, checksum, shapes, golden cases and card, all without starting the service."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.manifest import InvalidManifest, Manifest, read_manifest
from service.domain.study import Kind
from service.infer.golden import SOURCE, golden_cases, golden_problems, shape_problems
from service.prepare import ct, cxr


@dataclass(frozen=True)
class Verified:
    """What was found. problems: empty when all is well; detail: what was checked."""

    name: str
    problems: list[str]
    detail: str = ""


def verify(folder: Path) -> Verified:
    """Check one bundle's folder; never raises for what the bundle holds."""
    try:
        manifest = read_manifest(folder)
    except (InvalidManifest, TypeError, ValueError) as error:
        return Verified(folder.name, [str(error)])
    missing = [v.file_name for v in manifest.variants if not manifest.path_of(v).is_file()]
    if missing:
        return Verified(folder.name, [f"{name} is missing" for name in missing])
    problems = []
    for variant in manifest.variants:
        digest = hashlib.sha256(manifest.path_of(variant).read_bytes()).hexdigest()
        if digest != variant.sha256.lower():
            problems.append(f"sha256 of {variant.file_name} is {digest[:12]}..., the manifest says "
                            f"{variant.sha256[:12]}...")
    if shapes := shape_problems(manifest):
        problems += shapes
    else:
        problems += golden_problems(manifest, prepare)
    problems += _card_problems(manifest)
    count = len(golden_cases(manifest))
    beside = "".join(f", {v.precision} {v.sha256[:12]}" for v in manifest.others)
    return Verified(folder.name, problems, f"version {manifest.version}, {manifest.task}, sha256 {manifest.sha256[:12]}"
                                           f"{beside}, shapes, "
                                           f"{count} golden case{'' if count == 1 else 's'}, card")


def prepare(manifest: Manifest, case: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Prepare a golden case's source as the service does: (n, 1, h, w) float32.

    Raises: InvalidManifest for an unknown step or parameter; ValueError for another number of axes.
    """
    source = case[SOURCE[manifest.task]].astype(np.float32)
    if manifest.kind is Kind.CT:
        return ct.slice_tensor(source, manifest.parameters, manifest.steps)
    return cxr.image_tensor(source / np.float32(255.0), manifest.parameters, manifest.steps)


def _card_problems(manifest: Manifest) -> list[str]:
    path = manifest.folder / "MODEL_CARD.md"
    try:
        card = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ["MODEL_CARD.md is missing or unreadable"]
    return [] if manifest.sha256 in card else ["MODEL_CARD.md does not name the manifest's sha256: it is of other weights"]
