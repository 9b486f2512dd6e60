"""What the networks are given and say is counted by scanner and site, and shown against the bundle's reference."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from service import cli
from service.domain.drift import Reference, bins_of
from service.domain.manifest import read_manifest
from service.pipeline.drifting import show_drift
from service.store.database import Database
from service.store.drift import Source, counted
from tests.builders import ct_series, radiograph, uid
from tests.hospital import TINY, hospital, tiny_models

HERE = Source("Example Detector X", "Seaside")
QUICK = {"quiet_cxr_s": 0.2, "quiet_ct_s": 0.3, "early_cxr_s": 0.1, "early_ct_s": 0.2}
MARK = {"Manufacturer": "Example", "ManufacturerModelName": "Detector X", "InstitutionName": "Seaside"}


def refer(folder: Path, digest: str = "", **values: np.ndarray) -> None:
    """Write a reference into a bundle: values by measure, "_" for the space in its name."""
    bins = {name.replace("_", " "): bins_of(found) for name, found in values.items()}
    made = Reference(digest or read_manifest(folder).sha256, 500, True, bins)
    (folder / "reference.json").write_text(json.dumps(made.to_json()))


def test_images_are_counted_and_their_drift_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models, random = tiny_models(tmp_path / "models"), np.random.default_rng(1)
    refer(models / "tiny-cxr", input_mean=random.uniform(0.0, 1.0, 500), score_pneumonia=random.uniform(0.99, 1.0, 500))
    refer(models / "tiny-ct", score_lung=random.uniform(0.0, 0.5, 500))
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=QUICK) as house:
        for patient in (2, 3, 4):
            house.send(radiograph(patient=patient, **MARK))
        house.send(*ct_series())
        for study in (*(uid(patient, 1) for patient in (2, 3, 4)), uid(1, 1)):
            house.delivered(study)
        database, line = house.app.database, house.app.line
        assert line is not None
        with database.reading() as session:
            found = counted(session, 0)
        ours = {(bundle, source): (images, counts) for (bundle, _, source), (images, counts) in found.items()}
        images, counts = ours["tiny-cxr", HERE]
        assert images == 3 and sum(counts["input mean"]) == 3
        assert counts["score pneumonia"][0] == 3  # all below the reference
        (slices,) = [images for (bundle, _), (images, _) in ours.items() if bundle == "tiny-ct"]
        assert 0 < slices <= len(ct_series())  # each slice of which something is marked, once, whenever it was read
        show_drift(database, line.catalogue, line.metrics, house.app.clock(), 28, 1)
        shown = line.metrics.registry.get_sample_value
        labels = {"bundle": "tiny-cxr", "scanner": HERE.scanner, "site": HERE.site}
        assert (shown("firstlook_drift_stability_index", labels | {"measure": "score pneumonia"}) or 0) > 0.25
        assert shown("firstlook_drift_images", labels) == 3
        page = httpx.get(f"http://127.0.0.1:{house.app.web_port}/metrics").text
        assert 'site="Seaside"' in page
        settings = tmp_path / "settings.toml"
        settings.write_text(f'[store]\ndata_dir = "{house.app.data_dir}"\n[infer]\nmodels_dir = "{models}"\n'
                            'ct_bundles = ["tiny-ct"]\ncxr_bundles = ["tiny-cxr"]\ncxr_gate = ""\ncxr_lungs = ""\n')
        assert cli.main(["models", "drift", "--settings", str(settings), "--least", "1", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        measures = {(d["bundle"], d["measure"]) for d in told["drift"]}
        assert measures >= {("tiny-cxr", "input mean"), ("tiny-ct", "score lung")}
        assert told["without_reference"] == []
        refer(models / "tiny-cxr", digest="0" * 64, input_mean=random.uniform(0.0, 1.0, 500))
        assert cli.main(["models", "drift", "--settings", str(settings), "--least", "1"]) == 0
        assert "tiny-cxr has no reference of its own weights" in capsys.readouterr().out
        show_drift(database, line.catalogue, line.metrics, house.app.clock(), 28, 1)
        assert shown("firstlook_drift_images", labels) is None


def test_a_reference_of_nonsense_stops_no_study(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    (models / "tiny-cxr" / "reference.json").write_text("{")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=QUICK) as house:
        house.send(radiograph())
        assert house.delivered(uid(2, 1)).state == "assessed"
        database: Database = house.app.database
        with database.reading() as session:
            assert counted(session, 0) == {}
