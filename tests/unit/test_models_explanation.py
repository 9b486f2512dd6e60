"""The saliency map follows a lesion: where an opacity is pasted into a lung, the map rises most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.evaluation.bundles import Network
from models.training.clouds import LEFT_OF_IMAGE, RIGHT_OF_IMAGE, figures, shrunk, with_opacity
from service.domain import codes
from service.domain.manifest import Manifest, read_manifest
from service.prepare import cxr
from tests.tiny_tasks import findings

ROOT = Path(__file__).parents[2]
SHIPPED = [n for n in ("cxr-pattern", "cxr-findings") if (ROOT / "models" / n / "manifest.toml").is_file()]
RADIOGRAPHS = sorted((ROOT / "service" / "demo" / "studies" / "cxr").glob("*.dcm"))
"""The radiographs of the demonstration: no bundle was trained on them."""

OPACITIES = (codes.PNEUMONIA, codes.CONSOLIDATION, codes.INFILTRATE, codes.OPACITY)
LEAST_FOLLOWED = 5  # of the six radiographs, each for itself
Grey = NDArray[np.float32]


def evidence(network: Network, grey: Grey) -> Grey:
    """The map of the outputs that mean an opacity, added up: (h, w)."""
    manifest = network.manifest
    maps = network.run(cxr.image_tensor(grey, manifest.parameters, manifest.steps))["activation"][0]
    found: Grey = maps[[o.index for o in manifest.outputs if o.code in OPACITIES]].sum(axis=0)
    return found


def gains_most(difference: Grey) -> float:
    """Where across the image a difference of maps is highest, as a share of the width."""
    return (float(difference.max(axis=0).argmax()) + 0.5) / difference.shape[1]


def shown_peak(manifest: Manifest, network: Network, grey: Grey, k: int) -> tuple[float, float]:
    """The strongest place of output k's map as the service shows it: (across, down), shares of the image."""
    answer = network.run(cxr.image_tensor(grey, manifest.parameters, manifest.steps))
    seen = cxr.saliency_on_source(answer["activation"][0, k], *grey.shape, manifest.parameters)
    row, column = np.unravel_index(int(seen.argmax()), seen.shape)
    return column / grey.shape[1], row / grey.shape[0]


@pytest.mark.parametrize("centre", [LEFT_OF_IMAGE, RIGHT_OF_IMAGE, (0.3, 0.3), (0.75, 0.7)])
def test_the_peak_of_a_tiny_bundle_is_where_the_opacity_was_pasted(centre: tuple[float, float], tmp_path: Path) -> None:
    bundle = findings(tmp_path)
    flat = np.full((300, 260), 0.2, np.float32)
    k = next(o.index for o in bundle.outputs if o.code == codes.PLEURAL_EFFUSION)
    assert shown_peak(bundle, Network(bundle, 1), with_opacity(flat, centre), k) == pytest.approx(centre, abs=0.05)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_map_of_a_shipped_bundle_gains_most_in_the_lung_where_an_opacity_was_pasted(name: str) -> None:
    network = Network(read_manifest(ROOT / "models" / name), 1)
    assert len(RADIOGRAPHS) == 6
    for centre in (LEFT_OF_IMAGE, RIGHT_OF_IMAGE):
        gained = []
        for path in RADIOGRAPHS:
            plain = shrunk(path)
            gained.append(gains_most(evidence(network, with_opacity(plain, centre)) - evidence(network, plain)))
        followed = sum((across < 0.5) is (centre[0] < 0.5) for across in gained)
        assert followed >= LEAST_FOLLOWED, gained


def test_what_a_pasted_cloud_moves_is_told_for_each_finding(tmp_path: Path) -> None:
    bundle = findings(tmp_path)
    bright = np.full((200, 200), 0.95, np.float32)
    told = figures(bundle, {"normal-1": np.full((300, 260), 0.2, np.float32), "sick": bright})
    assert (told["healthy"], told["with_disease"]) == (1, 1) and set(told["flagged"]) == {"normal-1", "sick"}
    assert set(told["most_moved"]) == {o.name for o in bundle.outputs if o.code != codes.NO_FINDING}
    assert max(told["most_moved"].values()) > 0.005, "the tiny network's score is how bright an image is"
    assert told["flagged"]["sick"]["Effusion"] == pytest.approx(0.95, abs=0.01)
    plain = told["flagged"]["normal-1"]
    assert "Effusion" not in plain and plain["pneumonia"] == pytest.approx(0.8, abs=0.01)
