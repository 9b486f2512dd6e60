"""Data folders of a few made-up images, laid out like the training data, whose figures can be worked out by hand."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

SIDE = 32
COLUMNS = ("file", "source", "patient", "group", "population", "view", "age", "sex", "covid19", "no_finding", "Pneumonia",
           "Effusion", "Mass", "lung_mask", "orig", "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Emphysema",
           "Fibrosis", "Hernia", "Infiltration", "Nodule", "Pleural_Thickening", "Pneumothorax")


def radiographs(data: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write cxr/labels.csv and its images. Each row: `grey` (0 to 255, the whole image; None: no image is written) and
    columns; file, patient and group are made up where not given. Returns `data`."""
    folder = data / "cxr"
    (folder / "images").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for number, given in enumerate(rows):
            row = {"file": f"images/{number:03}.png", "patient": f"p{number}", "group": f"g{number}", "source": "here"}
            row |= given
            grey = row.pop("grey")
            if grey is not None:
                cv2.imwrite(str(folder / row["file"]), np.full((SIDE, SIDE), grey, np.uint8))
            writer.writerow(row)
    return data


def sick(grey: int | None = 230, **columns: Any) -> dict[str, Any]:
    """A row labelled pneumonia."""
    return {"grey": grey, "no_finding": 0, "Pneumonia": 1, "covid19": 0, **columns}


def well(grey: int | None = 25, **columns: Any) -> dict[str, Any]:
    """A row labelled as without finding."""
    return {"grey": grey, "no_finding": 1, "Pneumonia": 0, "covid19": 0, **columns}


def lesion(data: Path, case: str, number: int, mask: np.ndarray, seen: np.ndarray | None = None) -> None:
    """Write a slice of ct_lesions. `seen`: black where tests' CT rule shall see infection; default: where the mask has it.

    mask: (y, x), 0 none, 1 lung, 2 infection.
    """
    folder = data / "ct_lesions" / case
    folder.mkdir(parents=True, exist_ok=True)
    black = mask == 2 if seen is None else seen
    cv2.imwrite(str(folder / f"{number:03}-ct.png"), np.where(black, 0, 255).astype(np.uint8))
    indexed = Image.fromarray(mask.astype(np.uint8))
    indexed.putpalette([0, 0, 0, 90, 90, 255, 255, 60, 60])
    indexed.save(folder / f"{number:03}-mask.png")


def lung(data: Path, name: str, hu: np.ndarray, mask: np.ndarray) -> None:
    """Write a slice of ct_lungs; hu: (y, x) in HU, mask: (y, x) of lung."""
    folder = data / "ct_lungs"
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f"{name}-hu.png"), (hu + 1024).astype(np.uint16))
    cv2.imwrite(str(folder / f"{name}-mask.png"), mask.astype(np.uint8) * 255)


def square(
    value: int, rows: slice = slice(8, 16), columns: slice = slice(8, 24), on: np.ndarray | None = None,
) -> np.ndarray:
    """A plane with a box of one value: (SIDE, SIDE) int32."""
    plane = np.zeros((SIDE, SIDE), np.int32) if on is None else on.copy()
    plane[rows, columns] = value
    return plane
