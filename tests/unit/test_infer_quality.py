"""The gate: what each rule does to an image, and which reason is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.domain.study import RadiographImage
from service.errors import EngineUnavailable, Reason, UnusableStudy
from service.infer.catalogue import Catalogue
from service.infer.engine import Engine
from service.infer.quality import Judged, judge
from tests.tiny_bundles import BAND_PX, QUALITY, band_gate


def scored(**scores: float) -> NDArray[np.float32]:
    """An image that the tiny gate scores so; frontal by default."""
    grey = np.zeros((256, 256), np.float32)
    for name, score in ({"frontal": 1.0} | scores).items():
        k = QUALITY.index(name)
        grey[:16, k * BAND_PX:(k + 1) * BAND_PX] = score
    return grey


def judged(folder: Path, grey: NDArray[np.float32], **rules: str) -> Judged:
    manifest = band_gate(folder, **rules)
    engine = Engine(Catalogue.load(folder), "cpu", threads=1)
    return judge(RadiographImage("1.2", grey), engine, manifest, lambda grey: grey[np.newaxis, np.newaxis])


@pytest.mark.parametrize(("scores", "reason"), [
    ({"frontal": 0.4}, Reason.NOT_A_FRONTAL_CHEST),
    ({"frontal": 0.0, "lateral": 1.0}, Reason.LATERAL_VIEW),
    ({"frontal": 0.0, "other": 1.0}, Reason.NOT_A_FRONTAL_CHEST),
    ({"inverted": 0.95}, Reason.IMAGE_INVERTED),
    ({"rotated_90": 0.95}, Reason.ROTATED_IMAGE), ({"rotated_180": 0.95}, Reason.ROTATED_IMAGE),
    ({"rotated_270": 0.95}, Reason.ROTATED_IMAGE),
    ({"inverted": 0.92, "rotated_180": 0.98}, Reason.ROTATED_IMAGE),
])
def test_an_image_is_refused_with_the_most_telling_reason(
    tmp_path: Path, scores: dict[str, float], reason: Reason,
) -> None:
    with pytest.raises(UnusableStudy) as caught:
        judged(tmp_path, scored(**scores))
    assert caught.value.reason is reason and "tiny-gate" in caught.value.detail


def test_clipped_and_child_may_be_refused_and_an_output_of_another_name_too(tmp_path: Path) -> None:
    for number, (name, reason) in enumerate((("clipped", Reason.IMAGE_CLIPPED), ("child", Reason.IMAGE_OF_A_CHILD))):
        with pytest.raises(UnusableStudy) as caught:
            judged(tmp_path / str(number), scored(**{name: 0.95}), **{name: "refuse"})
        assert caught.value.reason is reason


def test_what_is_noted_is_said_and_lets_the_image_pass(tmp_path: Path) -> None:
    said = judged(tmp_path, scored(clipped=0.97, child=0.5))
    assert said.notes == ("a part of the lungs may be cut off by the edge of the image (score 0.97)",)
    assert said.over == {"frontal", "clipped"}


def test_a_good_image_passes_without_a_word(tmp_path: Path) -> None:
    assert judged(tmp_path, scored()) == Judged(over=frozenset({"frontal"}))


def test_an_output_without_a_rule_does_nothing(tmp_path: Path) -> None:
    assert judged(tmp_path, scored(frontal=0.0, inverted=1.0), child="note").notes == ()


def test_a_score_that_is_not_a_number_is_an_engine_error(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="does not fit its manifest"):
        judged(tmp_path, scored(lateral=float("nan")))
