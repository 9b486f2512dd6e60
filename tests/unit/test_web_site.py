"""What a site sets of the pages, the reading targets, the calibration of models, and the report as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.errors import Reason
from service.report.build import build_refusal
from service.web import words
from service.web.calibration import notes_in
from service.web.site import ReadWithin, SiteViewer, links
from service.web.view.document import NoDocument, lines
from tests import builders
from tests.browser import seed
from tests.contracts.assessed import NOW, STYLE

OHIF = "https://viewer.example/viewer?StudyInstanceUIDs={study_instance_uid}"
WEASIS = "weasis://%24dicom%3Ars%20-r%20studyUID%3D{study_instance_uid}"
MODELS = Path(__file__).parents[2] / "models"


def test_links_lead_to_the_study_in_the_viewers_of_the_site() -> None:
    study = seed.study(1, 0.0, 10, "assessed")
    viewers = [SiteViewer(name="OHIF", url=OHIF), SiteViewer(name="Weasis", url=WEASIS),
               SiteViewer(name="PACS", url="https://pacs.example/?id={patient_id}&a={accession_number}")]
    study.patient_id, study.accession_number = "A&B/7?", "X 1"
    made = {link.name: link.address for link in links(viewers, study, "full")}
    assert made == {"OHIF": OHIF.format(study_instance_uid=study.study_instance_uid),
                    "Weasis": WEASIS.format(study_instance_uid=study.study_instance_uid),
                    "PACS": "https://pacs.example/?id=A%26B%2F7%3F&a=X%201"}
    assert [link.name for link in links(viewers, study, "hidden")] == ["OHIF", "Weasis"], "no ID where it is hidden"
    study.accession_number = ""
    assert [link.name for link in links(viewers, study, "full")] == ["OHIF", "Weasis"]


@pytest.mark.parametrize("url", [
    "javascript:alert('{study_instance_uid}')", "JavaScript:alert('{study_instance_uid}')", "https://viewer.example/",
    "data:text/html,{study_instance_uid}", "//viewer.example/{study_instance_uid}", "https://v.example/{study.__class__}",
    "https://v.example/{patient_name}", "https://v.example/{study_instance_uid", "https://v.example/{0}",
    " https://v.example/{study_instance_uid}\n"])
def test_an_address_that_is_no_template_of_a_viewer_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="accepted"):
        SiteViewer(name="x", url=url)


def test_a_wait_is_said_against_its_target() -> None:
    within = ReadWithin(stat_min=30, low_min=0)
    assert (within.seconds("stat"), within.seconds("low")) == (1800.0, 0.0)
    assert words.against(600, 1800) == words.Said("of 30 min")
    assert words.against(2100, 1800) == words.Said("of 30 min", "late by 5 min", "warn")
    assert words.against(99, 0) == words.Said("")


def test_a_calibration_error_is_told_of_these_weights_only(tmp_path: Path) -> None:
    note = notes_in(MODELS)
    digest = (MODELS / "cxr-findings" / "manifest.toml").read_text(encoding="utf-8").split('sha256 = "')[1].split('"')[0]
    stored = json.loads((MODELS / "cxr-findings" / "figures.json").read_text(encoding="utf-8"))
    [value] = [f["value"] for f in stored["cross_validation"]["figures"]
               if (f["name"], f["of"], f["subset"]) == ("calibration error", "edema", "all")]
    assert note("cxr-findings", digest, "edema").startswith(f"calibration error {value:.2f} (")
    assert note("cxr-findings", "0" * 64, "edema") == "calibration measured for other weights only"
    for bundle in ("no-such-bundle", "", "../models/cxr-findings"):
        assert note(bundle, digest, "edema") == "calibration not measured"


def test_a_report_reads_as_lines_of_text(tmp_path: Path) -> None:
    sources = builders.ct_series(slices=3, size=16)
    [made] = build_refusal(sources[0], sources, Reason.SLICES_TOO_THICK, "slices are 7 mm apart", STYLE, "d", [], NOW)
    made.dataset.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    said = lines(tmp_path / "sr.dcm")
    assert said[0].depth == 0 and said[0].name == "Imaging Measurement Report" and said[0].value == ""
    assert any("slices are 7 mm apart" in line.value for line in said)
    assert any("Research use only" in line.value for line in said)
    (tmp_path / "sr.dcm").write_bytes(b"no DICOM")
    with pytest.raises(NoDocument, match="cannot be read"):
        lines(tmp_path / "sr.dcm")
