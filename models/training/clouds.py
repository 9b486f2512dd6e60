"""Does a radiograph bundle see one opacity? A cloud is pasted into a lung, and each finding's probability looked at again.

`python -m models.training.clouds models/cxr-pattern --radiographs DIR` prints, and with `--write` puts into the bundle's
figures.json, from which its card is written, how far any probability moves, and what the bundle says of the radiographs as
they are. DIR: DICOM files that it was not trained on; those whose name begins with "normal" show no disease.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.evaluation.bundles import Network
from models.training.figures_file import add_figures
from service.domain import codes
from service.domain.manifest import Manifest, Output, read_manifest
from service.prepare import cxr
from service.prepare.display import to_grey

LEFT_OF_IMAGE, RIGHT_OF_IMAGE = (0.3, 0.55), (0.7, 0.55)
"""Places in a lung: across and down, as shares of the image."""

SIDE_PX = 512
Grey = NDArray[np.float32]


def with_opacity(grey: Grey, centre: tuple[float, float], strength: float = 0.8) -> Grey:
    """Paste a cloudy opacity, about a fifth of the image wide, around a centre.

    grey: (y, x) float32 in 0..1, bright = dense; centre: across and down, as shares; returns the same shape.
    """
    rows, columns = grey.shape
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    apart = ((x / columns - centre[0]) / 0.1) ** 2 + ((y / rows - centre[1]) / 0.13) ** 2
    cloud = cv2.resize(np.random.default_rng(1).random((16, 16)).astype(np.float32), (columns, rows),
                       interpolation=cv2.INTER_CUBIC)
    cover = strength * 1.2 * np.exp(-apart) * (0.6 + 0.4 * cloud)
    return np.clip(grey + cover * (1 - grey), 0, 1).astype(np.float32)


def shrunk(path: Path) -> Grey:
    """Read a radiograph as displayed, its longer side SIDE_PX pixels: (y, x) float32 in 0..1."""
    grey = to_grey(path)[0].grey
    scale = SIDE_PX / max(grey.shape)
    return cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def figures(manifest: Manifest, radiographs: dict[str, Grey]) -> dict[str, Any]:
    """Return how far each finding's probability moves at most, by output, and what is flagged, by radiograph.

    radiographs: by name, those of healthy people begin with "normal"; measured with the file named for a CPU.
    """
    network = Network(manifest, 1)
    found = [o for o in manifest.outputs if o.code not in (None, codes.NO_FINDING)]
    healthy = {name: grey for name, grey in radiographs.items() if name.startswith("normal")}
    plain = {name: _scores(network, grey, found) for name, grey in radiographs.items()}
    moves = [_scores(network, with_opacity(grey, centre), found) - plain[name]
             for name, grey in healthy.items() for centre in (LEFT_OF_IMAGE, RIGHT_OF_IMAGE)]
    most = np.abs(np.array(moves)).max(axis=0)
    over = {name: {o.name: round(float(s), 4) for o, s in zip(found, scores, strict=True) if s >= o.threshold}
            for name, scores in plain.items()}
    return {"healthy": len(healthy), "most_moved": {o.name: float(m) for o, m in zip(found, most, strict=True)},
            "flagged": over, "with_disease": len(radiographs) - len(healthy)}


def _scores(network: Network, grey: Grey, outputs: list[Output]) -> NDArray[np.float32]:
    manifest = network.manifest
    tensor = cxr.image_tensor(grey, manifest.parameters, manifest.steps)
    scores: NDArray[np.float32] = network.run(tensor)["probabilities"][0, [o.index for o in outputs]]
    return scores


def main() -> None:
    """Measure, print, and keep if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="folder of a cxr-classification bundle")
    parser.add_argument("--radiographs", type=Path, required=True, help="folder of DICOM files")
    parser.add_argument("--write", action="store_true", help="put the figures into the bundle's figures.json")
    options = parser.parse_args()
    images = {p.stem: shrunk(p) for p in sorted(options.radiographs.glob("*.dcm"))}
    found = figures(read_manifest(options.bundle.resolve()), images)
    print(json.dumps(found, indent=1))
    if options.write:
        add_figures(options.bundle, {"pasted_cloud": found})


if __name__ == "__main__":
    main()
