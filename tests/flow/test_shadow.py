"""A bundle that looks beside the active ones: compared, never shown, never sent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest
from sqlmodel import select

from service import cli
from service.domain.job import JobKind, JobState
from service.store.activations import switch_beside
from service.store.tables import Job, ShadowLook
from tests.builders import ct_series, radiograph, uid
from tests.flow.test_switch import whole_bundle
from tests.hospital import TINY, hospital, tiny_models
from tests.peers import wait_until
from tests.tiny_bundles import brightness_cxr, density_ct

CT_STUDY, CXR_STUDY = uid(1, 1), uid(2, 1)
QUICK = {"quiet_cxr_s": 0.2, "quiet_ct_s": 0.3}


def test_what_a_shadow_says_is_compared_and_goes_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = tiny_models(tmp_path / "models")
    brightness_cxr(models, "next-cxr")
    density_ct(models, "next-ct")
    stricter = models / "next-cxr" / "manifest.toml"
    stricter.write_text(stricter.read_text().replace("threshold = 0.2", "threshold = 0.0"))
    shadows = {"models_dir": models, "shadow_bundles": ["next-cxr", "next-ct"]}
    with hospital(tmp_path / "house", infer=TINY | shadows, assemble=QUICK) as house:
        house.send(radiograph())
        house.send(*ct_series())
        for study in (CXR_STUDY, CT_STUDY):
            house.delivered(study)

        def looks() -> list[ShadowLook] | None:
            with house.app.database.reading() as session:
                found = list(session.exec(select(ShadowLook)).all())
            return found if len(found) == 2 else None

        found = {one.bundle: one for one in wait_until(looks, 60)}
        assert {f["bundle"] for f in found["next-cxr"].summary["findings"]} == {"next-cxr"}
        assert found["next-ct"].reason == "" and found["next-ct"].seconds > 0
        for study in (CXR_STUDY, CT_STUDY):
            row = house.study(study)
            assert not any("next" in b["name"] for b in row.summary["bundles"])
            assert not any("next-c" in ds.to_json() for ds in house.in_pacs(study) if ds.Modality == "SR")
            (job,) = [j for j in house.jobs(study) if j.kind == JobKind.SHADOW]
            assert (job.state, job.urgency) == (JobState.DONE, "low")
        assert "next-c" not in httpx.get(f"http://127.0.0.1:{house.app.web_port}/").text
        counted = house.app.metrics.registry.get_sample_value
        assert counted("firstlook_shadow_looks_total", {"bundle": "next-cxr", "outcome": "differed"}) == 1
        settings = tmp_path / "settings.toml"
        settings.write_text(f'[store]\ndata_dir = "{house.app.data_dir}"\n')
        assert cli.main(["models", "shadow", "--settings", str(settings), "--json"]) == 0
        told = {one["bundle"]: one for one in json.loads(capsys.readouterr().out)}
        assert told["next-cxr"]["looks"] == 1 and {f["finding"] for f in told["next-cxr"]["findings"]} >= {"pneumonia"}
        assert cli.main(["models", "shadow", "--settings", str(settings)]) == 0
        assert "next-cxr 1.0.0" in capsys.readouterr().out


def test_a_bundle_begins_and_ends_to_look_beside_without_a_restart(tmp_path: Path,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=QUICK) as house:
        file = tmp_path / "settings.toml"
        file.write_text(f'[store]\ndata_dir = "{house.app.data_dir}"\n[infer]\nmodels_dir = "{models}"\n'
                        'ct_bundles = ["tiny-ct"]\ncxr_bundles = ["tiny-cxr"]\ncxr_gate = ""\ncxr_lungs = ""\n')

        def beside(*words: str) -> str:
            assert cli.main(["models", "beside", *words, "--settings", str(file)]) == 0
            return capsys.readouterr().out

        def shadows(patient: int) -> list[Job]:
            house.send(radiograph(patient=patient))
            house.delivered(uid(patient, 1))
            return [j for j in house.jobs(uid(patient, 1)) if j.kind == JobKind.SHADOW]

        assert shadows(2) == [] and beside().startswith("shadow: no bundle")
        whole_bundle(tmp_path, models / "next-cxr")  # while the service runs
        assert beside("next-cxr").startswith("shadow: next-cxr\n")
        assert [job.target for job in shadows(3)] == ["next-cxr"]
        wait_until(lambda: all(j.state == JobState.DONE for j in house.jobs(uid(3, 1)) if j.kind == JobKind.SHADOW), 60)
        assert cli.main(["models", "activate", "cxr", "next-cxr", "--settings", str(file)]) == 0
        assert shadows(4) == [], "what reads does not look beside itself"
        assert cli.main(["models", "rollback", "cxr", "--settings", str(file)]) == 0
        shutil.move(models / "next-cxr", tmp_path / "gone")
        assert [job.target for job in shadows(5)] == ["next-cxr"], "it is loaded"
        capsys.readouterr()
        assert beside("--none").startswith("shadow: no bundle") and shadows(6) == []
        assert cli.main(["models", "beside", "next-cxr", "--settings", str(file)]) == 2
        assert "not installed" in capsys.readouterr().err


def test_a_shadow_that_is_gone_keeps_no_study_from_its_result(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=QUICK) as house:
        with house.app.database.transaction() as session:
            switch_beside(session, ["gone-cxr"], (), 1.0, "x")
        house.send(radiograph())
        assert house.delivered(CXR_STUDY).state == "assessed"
        assert not [j for j in house.jobs(CXR_STUDY) if j.kind == JobKind.SHADOW]


def test_a_shadow_that_fails_changes_nothing_of_the_result(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    brightness_cxr(models, "next-cxr", channels=3)
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models, "shadow_bundles": ["next-cxr"]}, assemble=QUICK,
                  work={"tries": 1}) as house:
        house.send(radiograph())
        house.delivered(CXR_STUDY)
        wait_until(lambda: any(j.kind == JobKind.SHADOW and j.state == JobState.PARKED for j in house.jobs(CXR_STUDY)), 60)
        row = house.study(CXR_STUDY)
        assert (row.state, row.delivery, row.state_reason) == ("assessed", "delivered", "")
