"""Bundles are checked before they are used, and sessions say where they run."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from service.domain.identity import device_uid
from service.domain.manifest import InvalidManifest
from service.errors import EngineUnavailable, Reason, UnusableStudy
from service.infer.catalogue import Catalogue, identity
from service.infer.engine import CPU, CUDA, FOREIGN_ERRORS, Engine
from service.metrics import Metrics
from tests.tiny_bundles import brightness_cxr, threshold_ct

WITHOUT_CUDA = pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this machine has CUDA")


def slices(*hu: float) -> np.ndarray:
    return np.array(hu, np.float32)[:, None, None, None] * np.ones((1, 1, 4, 4), np.float32)


def test_catalogue_holds_every_folder_with_a_manifest(tmp_path: Path) -> None:
    threshold_ct(tmp_path)
    brightness_cxr(tmp_path)
    (tmp_path / "training").mkdir()
    catalogue = Catalogue.load(tmp_path)
    assert [m.name for m in catalogue] == ["tiny-ct", "tiny-cxr"] and len(catalogue) == 2
    assert "tiny-ct" in catalogue and catalogue.get("tiny-cxr").task == "cxr-classification"


def test_changed_model_file_is_refused_by_name(tmp_path: Path) -> None:
    manifest = threshold_ct(tmp_path)
    content = bytearray(manifest.model_path.read_bytes())
    content[-1] ^= 1
    manifest.model_path.write_bytes(content)
    with pytest.raises(InvalidManifest, match=r"tiny-ct/model.onnx: sha256 is .* the manifest says"):
        Catalogue.load(tmp_path)


def test_missing_model_file_or_folder_is_refused_by_name(tmp_path: Path) -> None:
    threshold_ct(tmp_path).model_path.unlink()
    with pytest.raises(InvalidManifest, match=r"model.onnx: cannot be read"):
        Catalogue.load(tmp_path)
    with pytest.raises(InvalidManifest, match="does not exist"):
        Catalogue.load(tmp_path / "nowhere")


def test_bundle_that_is_not_installed_is_no_model(tmp_path: Path) -> None:
    threshold_ct(tmp_path)
    with pytest.raises(UnusableStudy, match="installed: tiny-ct") as caught:
        Catalogue.load(tmp_path).get("other")
    assert caught.value.reason is Reason.NO_MODEL


def test_other_weights_are_another_device(tmp_path: Path) -> None:
    one, other = identity(threshold_ct(tmp_path)), identity(brightness_cxr(tmp_path))
    assert one.device_uid != other.device_uid and one.device_uid == device_uid(one.digest.upper())
    assert one.device_uid.startswith("2.25.") and len(one.device_uid) <= 44
    assert device_uid("0" * 64) == "2.25.128770824404583426948112937165740727432"


def test_session_runs_and_names_its_provider_everywhere(tmp_path: Path) -> None:
    threshold_ct(tmp_path)
    metrics = Metrics()
    engine = Engine(Catalogue.load(tmp_path), "cpu", threads=1, metrics=metrics)
    assert engine.providers() == {}
    engine.warm("tiny-ct")
    assert engine.providers() == {"tiny-ct": CPU}
    assert b'firstlook_engine_info{bundle="tiny-ct",provider="CPUExecutionProvider",version="1.0.0"} 1.0' \
        in metrics.exposition()
    probabilities = engine.run("tiny-ct", {"slices": slices(-850, -100, 40)})["probabilities"]
    assert probabilities[:, :, 0, 0].tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_one_session_serves_several_threads(tmp_path: Path) -> None:
    threshold_ct(tmp_path)
    engine = Engine(Catalogue.load(tmp_path), "cpu", threads=1)
    found: dict[int, float] = {}

    def run(number: int) -> None:
        found[number] = float(engine.run("tiny-ct", {"slices": slices(-850)})["probabilities"][0, 1, 0, 0])

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(8), 1.0) and len(engine.providers()) == 1


@WITHOUT_CUDA
def test_cuda_that_is_not_there_is_refused_at_the_start_and_auto_takes_the_cpu(tmp_path: Path) -> None:
    threshold_ct(tmp_path)
    with pytest.raises(EngineUnavailable, match="device is cuda, but ONNX Runtime has only"):
        Engine(Catalogue.load(tmp_path), "cuda")
    engine = Engine(Catalogue.load(tmp_path), "auto")
    engine.warm("tiny-ct")
    assert engine.providers() == {"tiny-ct": CPU}


@pytest.mark.parametrize("feed", [
    {}, {"other": slices(0)}, {"slices": slices(0)[0]}, {"slices": slices(0).astype(np.float64)},
    {"slices": np.array(["a"])},
])
def test_feed_that_the_model_refuses_is_an_engine_error(feed: dict[str, np.ndarray], tmp_path: Path) -> None:
    threshold_ct(tmp_path)
    engine = Engine(Catalogue.load(tmp_path), "cpu")
    with pytest.raises(EngineUnavailable) as caught:
        engine.run("tiny-ct", feed)
    assert caught.value.reason is Reason.ENGINE_FAILED


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(1000)])
def test_model_that_cannot_be_loaded_is_an_engine_error(content: bytes, tmp_path: Path) -> None:
    manifest = threshold_ct(tmp_path)
    catalogue = Catalogue.load(tmp_path)
    manifest.model_path.write_bytes(content)
    with pytest.raises(EngineUnavailable, match="could not be loaded"):
        Engine(catalogue, "cpu").warm("tiny-ct")


def test_every_error_class_of_the_runtime_is_known() -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = {name for name, value in vars(state).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert {"Fail", "InvalidArgument", "InvalidGraph", "RuntimeException"} <= own
    assert own <= {error.__name__ for error in FOREIGN_ERRORS}
