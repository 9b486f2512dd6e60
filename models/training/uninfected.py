"""What a CT bundle calls infected in a series without infection: by the bare network, and after the service's read-out.

`python -m models.training.uninfected models/ct-lung-infection --series DIR` prints the figures of model.onnx and of the
file that is for a CPU, and with `--write` puts them into the bundle's figures.json, from which its card is written.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread

from models.evaluation.bundles import with_file
from models.training.figures_file import add_figures
from service.domain.finding import Presence
from service.domain.manifest import Manifest, read_manifest
from service.domain.study import CtVolume, VolumeGeometry
from service.domain.variant import Use
from service.infer.catalogue import Catalogue
from service.infer.ct import assess_ct
from service.infer.engine import Engine
from service.infer.reading import CtTransform
from service.prepare import ct
from service.prepare.hounsfield import to_hu
from service.prepare.pixels import decode


def volume_of(folder: Path) -> CtVolume:
    """Read one series of parallel slices, in order of position along the patient."""
    series = sorted(((dcmread(p, stop_before_pixels=True), p) for p in folder.glob("*.dcm")),
                    key=lambda pair: float(pair[0].ImagePositionPatient[2]))
    hu = np.stack([to_hu(decode(p), float(h.RescaleSlope), float(h.RescaleIntercept)) for h, p in series])
    first = series[0][0]
    positions = tuple(float(h.ImagePositionPatient[2]) for h, _ in series)
    spacing = ((positions[-1] - positions[0]) / (len(positions) - 1), *(float(s) for s in first.PixelSpacing))
    geometry = VolumeGeometry(positions, spacing, tuple(float(v) for v in first.ImageOrientationPatient), (0, 0, 1),
                              *hu.shape[1:], first.FrameOfReferenceUID)
    return CtVolume(hu, geometry)


def figures(manifest: Manifest, volume: CtVolume) -> dict[str, Any]:
    """Return percent of lung called infected by the network alone and by the service, and whether the finding is present."""
    engine = Engine(Catalogue({manifest.name: manifest}), "cpu", 1, eight_bits=lambda: True)
    tensor = ct.slice_tensor(volume.hu, manifest.parameters, manifest.steps)
    classes = np.concatenate([
        engine.run(manifest.name, {"slices": tensor[k:k + 8]})["probabilities"].argmax(axis=1)
        for k in range(0, len(tensor), 8)])
    transform = CtTransform(partial(ct.slice_tensor, parameters=manifest.parameters, steps=manifest.steps), ct.restore)
    said = assess_ct(volume, engine, manifest, transform)
    found = next(f for f in said.findings)
    masks = said.masks if said.masks is not None else np.zeros((1, 1, 1), np.uint8)
    return {
        "slices": len(tensor), "network_percent_of_lung": 100.0 * float((classes == 2).sum() / max((classes > 0).sum(), 1)),
        "service_percent_of_lung": 100.0 * float(((masks & 4) > 0).sum() / max(((masks & 3) > 0).sum(), 1)),
        "study_probability": found.probability, "threshold": found.threshold, "present": found.presence is Presence.PRESENT,
    }


def main() -> None:
    """Measure, print, and keep if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, help="folder of a ct-segmentation bundle")
    parser.add_argument("--series", type=Path, required=True, help="folder with one DICOM series without infection")
    parser.add_argument("--write", action="store_true", help="put the figures into the bundle's figures.json")
    options = parser.parse_args()
    manifest, volume = read_manifest(options.bundle.resolve()), volume_of(options.series)
    files = {"uninfected_ct": manifest.variants[0], "uninfected_ct_on_cpu": manifest.variant_for(Use.CPU)}
    found = {key: figures(with_file(manifest, variant), volume) for key, variant in files.items()}
    print(json.dumps(found, indent=1))
    if options.write:
        add_figures(options.bundle, found)


if __name__ == "__main__":
    main()
