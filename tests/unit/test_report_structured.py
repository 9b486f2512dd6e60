"""What the report says, and what it must not say."""

from __future__ import annotations

import dataclasses

import pytest
from highdicom.sr import srread
from pydicom.dataset import Dataset

from service.domain import codes
from service.domain.finding import Presence
from service.domain.study import SetAside
from service.errors import Reason
from service.report.build import build, build_refusal
from tests import builders
from tests.contracts import gate
from tests.contracts.assessed import NOW, STYLE, ct, cxr


def sr_of(selection, sources, said, previous=()) -> Dataset:
    """Return the SR of an assessment."""
    return build(selection, sources, said, STYLE, "d", 1, list(previous), NOW)[-1].dataset


def named(report: Dataset, code: codes.Code) -> list[Dataset]:
    """Return the items of all groups under one concept name."""
    return [i for g in gate.groups(report) for i in g.ContentSequence
            if i.ConceptNameCodeSequence[0].CodeValue == code.value]


@pytest.fixture
def sources() -> list[Dataset]:
    """A small CT."""
    return list(builders.ct_series(slices=6, size=32))


def test_the_summary_tells_findings_from_none(sources):
    for infection, code in ((True, codes.SUCCEEDED_WITH_FINDINGS), (False, codes.SUCCEEDED_WITHOUT_FINDINGS)):
        (item,) = named(sr_of(*_args(sources, infection)), codes.PROCESSING_SUMMARY)
        assert item.ConceptCodeSequence[0].CodeValue == code.value


def _args(sources, infection=True, **changes):
    selection, said = ct(sources, infection, **changes)
    return selection, sources, said


def test_probability_is_in_percent_with_its_threshold_in_words(sources):
    report = sr_of(*_args(sources))
    values = [float(i.MeasuredValueSequence[0].NumericValue) for i in named(report, codes.PROBABILITY)]
    assert values == [91.0, 10.0]
    assert any("Reported as present: the threshold is 50 %." in t for t in gate.texts(report))


def test_a_segment_of_an_absent_finding_is_not_called_a_finding(sources):
    selection, said = ct(sources)
    denied = dataclasses.replace(said.findings[0], code=codes.OPACITY, presence=Presence.ABSENT)
    report = sr_of(selection, sources, dataclasses.replace(said, findings=(denied,)))
    assert "112001" not in [i.ConceptCodeSequence[0].CodeValue for i in named(report, codes.FINDING)]


def test_an_empty_segment_is_reported_in_words_without_a_reference(sources):
    report = sr_of(*_args(sources, infection=False))
    assert "No voxel was marked as infection." in gate.texts(report)
    zero = [i for i in named(report, codes.VOLUME) if float(i.MeasuredValueSequence[0].NumericValue) == 0]
    assert len(zero) == 1


def test_limitations_choice_and_series_set_aside_are_told(sources):
    selection, said = ct(sources)
    aside = (SetAside("1.2", "localizer_only", ""), SetAside("1.3", "localizer_only", ""))
    chosen = dataclasses.replace(selection, set_aside=aside, limitations=("one slice is missing",))
    told = gate.texts(sr_of(chosen, sources, said))
    assert "Images chosen: thinnest axial series" in told
    assert "Not used: 2 x localizer_only" in told
    assert {"Limitation: one slice is missing", "Limitation: trained on adults only"} <= set(told)


def test_a_suggested_priority_is_told_only_for_a_present_finding(sources):
    for infection in (True, False):
        told = gate.texts(sr_of(*_args(sources, infection)))
        assert ("Suggested priority of reading: urgent." in told) is infection


def test_a_later_report_names_the_one_it_replaces_and_never_itself(sources):
    selection, said = ct(sources)
    first = sr_of(selection, sources, said)
    assert "PredecessorDocumentsSequence" not in sr_of(selection, sources, said, [first])
    second = build(selection, sources, said, STYLE, "other input", 2, [first], NOW)[-1].dataset
    listed = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert [i.ReferencedSOPInstanceUID for i in listed] == [first.SOPInstanceUID]


def test_each_radiograph_is_scored_and_referred_to_by_itself():
    sources = [builders.radiograph(instance=1), builders.radiograph(instance=2)]
    report = sr_of(cxr(sources)[0], sources, cxr(sources)[1])
    shown = [i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for g in gate.groups(report)
             for i in g.ContentSequence if i.ValueType == "IMAGE"]
    assert shown == [s.SOPInstanceUID for s in sources for _ in range(2)]
    tracked = [i.UID for g in gate.groups(report) for i in g.ContentSequence if i.ValueType == "UIDREF"]
    assert len(tracked) == len(set(tracked)) == 5


@pytest.mark.parametrize(("views", "procedure"), [
    (["AP", "AP"], codes.XR_CHEST_AP), (["PA"], codes.XR_CHEST_VIEWS), (["AP", "PA"], codes.XR_CHEST_VIEWS)])
def test_the_procedure_reported_is_that_of_the_images(views, procedure):
    sources = [builders.radiograph(instance=n, ViewPosition=v) for n, v in enumerate(views, 1)]
    report = sr_of(cxr(sources)[0], sources, cxr(sources)[1])
    item = next(i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "121058")
    assert item.ConceptCodeSequence[0].CodeValue == procedure.value


def test_the_observer_is_the_device_that_the_equipment_names(sources):
    report = sr_of(*_args(sources))
    said = {i.ConceptNameCodeSequence[0].CodeValue: i for i in report.ContentSequence}
    assert report.ContributingEquipmentSequence[0].DeviceUID == said["121012"].UID
    assert said["121014"].TextValue == report.Manufacturer
    assert said["121015"].TextValue == report.ManufacturerModelName


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_makes_a_report_that_gives_code_and_sentence(reason, tmp_path):
    source = builders.radiograph(sop_class="CR")
    made = build_refusal(source, [], reason, "", STYLE, "digest", [], NOW)[0]
    made.dataset.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    report = srread(tmp_path / "sr.dcm")
    assert {str(reason), reason.sentence, "Research use only. Not for clinical diagnosis."} <= set(gate.texts(report))
    assert gate.never_normal(report) == []
    assert "NOT ASSESSED" in report.SeriesDescription
    assert str(reason) in made.summary


def test_summaries_hold_nothing_of_the_patient(sources):
    selection, said = ct(sources)
    for made in build(selection, sources, said, STYLE, "d", 1, [], NOW):
        assert "Test" not in made.summary and "P0001" not in made.summary and "\n" not in made.summary
