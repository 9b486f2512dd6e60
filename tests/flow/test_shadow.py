"""A bundle that looks beside the active ones: compared, never shown, never sent."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from sqlmodel import select

from service import cli
from service.domain.job import JobKind, JobState
from service.store.tables import ShadowLook
from tests.builders import ct_series, radiograph, uid
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
