"""Patient and study are those of the source, as they are, whatever a scanner wrote."""

from __future__ import annotations

import dataclasses
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from service.domain.finding import Assessment
from service.domain.lesion import Lesion
from service.domain.prior import Comparison
from service.errors import Defect, Reason, UnusableStudy
from service.report.build import build, build_refusal
from service.report.document import Style, character_set
from tests import builders
from tests.contracts.assessed import NOW, STYLE, ct


def report_of(style: Style = STYLE, **changes: object) -> Dataset:
    """Return the SR of a refused study, written and read again."""
    source = builders.ct_series(slices=1, size=8, **changes)[0]
    made = build_refusal(source, [source], Reason.TOO_FEW_SLICES, "1 slice", style, "digest", [], NOW)
    return written(made[0].dataset)


def written(ds: Dataset) -> Dataset:
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)


@pytest.mark.parametrize(("keyword", "value"), [
    ("PatientName", "Müller^Zoë"), ("PatientName", "Yamada^Tarou=山田^太郎=やまだ^たろう"), ("PatientID", "Ä/../7"),
    ("PatientName", ""), ("PatientBirthDate", ""), ("PatientSex", ""), ("StudyTime", ""), ("StudyID", ""),
    ("PatientAge", "044Y"), ("IssuerOfPatientID", "HOSPITAL"), ("StudyTime", "101500.123456"),
])
def test_patient_and_study_are_those_of_the_source(keyword, value):
    assert str(report_of(**{keyword: value})[keyword].value) == value


@pytest.mark.parametrize(("keyword", "value"), [
    ("PatientSex", "MALE?"), ("PatientBirthDate", "1960.01.01"), ("StudyDate", "02-JAN-2026"), ("StudyTime", "10:15"),
    ("PatientID", "9" * 80), ("AccessionNumber", "A" * 20), ("PatientName", "one two three"),
])
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_values_outside_the_standard_are_carried_as_they_are(keyword, value):
    ds = builders.ct_series(slices=1, size=8)[0]
    ds[keyword] = DataElement(ds[keyword].tag, ds[keyword].VR, value, validation_mode=IGNORE)
    source = written(ds)
    made = build_refusal(source, [source], Reason.TOO_FEW_SLICES, "", STYLE, "digest", [], NOW)[0].dataset
    assert str(written(made)[keyword].value) == value


def test_bytes_that_do_not_fit_the_declared_character_set_do_not_stop_the_report():
    ds = builders.ct_series(slices=1, size=8)[0]
    ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 100", "Müller^Zoë"
    source = dcmread(BytesIO(builders.as_bytes(ds).replace(b"ISO_IR 100", b"ISO_IR 192")))
    with pytest.warns(UserWarning, match="Failed to decode"):
        made = build_refusal(source, [source], Reason.TOO_FEW_SLICES, "", STYLE, "digest", [], NOW)[0].dataset
        assert str(written(made).PatientName).startswith("M")


@pytest.mark.parametrize("keyword", [
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "ReferringPhysicianName"])
def test_a_missing_type_2_attribute_becomes_empty(keyword):
    assert report_of(**{keyword: None})[keyword].value in ("", None)


@pytest.mark.parametrize(("declared", "text", "expected"), [
    ("ISO_IR 192", "Süd", "ISO_IR 192"), ("ISO_IR 100", "Süd", "ISO_IR 100"), ("ISO_IR 100", "東", "ISO_IR 192"),
    (None, "South", ""), (None, "Süd", "ISO_IR 192"), (["", "ISO 2022 IR 87"], "South", ["", "ISO 2022 IR 87"]),
    (["", "ISO 2022 IR 87"], "Süd", "ISO_IR 192"), ("ISO_IR 999", "South", "ISO_IR 192"),
])
def test_the_character_set_is_the_sources_when_it_holds_our_texts(declared, text, expected):
    source = Dataset()
    if declared is not None:
        source.SpecificCharacterSet = declared
    assert character_set(source, [text]) == expected


@pytest.mark.parametrize("declared", ["ISO_IR 100", "ISO_IR 192", None])
def test_names_survive_our_own_texts_in_another_alphabet(declared):
    style = dataclasses.replace(STYLE, institution_name="東京病院")
    made = report_of(style, SpecificCharacterSet=declared, PatientName="Test^Patient")
    assert (made.InstitutionName, str(made.PatientName)) == ("東京病院", "Test^Patient")


@pytest.mark.parametrize(("source", "offset", "time"), [
    (None, "+0100", "123000"), ("+0900", "+0900", "203000"), ("-0330", "-0330", "080000"), ("nonsense", "+0100", "123000")])
def test_times_are_in_the_time_zone_that_the_object_declares(source, offset, time):
    made = report_of(TimezoneOffsetFromUTC=source)
    assert (made.TimezoneOffsetFromUTC, made.ContentTime) == (offset, time)
    assert (made.SeriesTime, made.InstanceCreationTime) == (time, time)


def test_urgency_stands_in_the_series_description_and_nothing_of_the_patient():
    sources = builders.ct_series(slices=4, size=16)
    for infection in (True, False):
        selection, said = ct(sources, infection)
        for made in build(selection, sources, said, STYLE, "d", 1, [], NOW):
            description = made.dataset.SeriesDescription
            assert description.startswith("AI CT: ") and description.endswith("research use only")
            assert ("URGENT" in description) is infection
            assert len(description) <= 64 and "Test" not in description


def test_series_numbers_follow_the_style():
    sources = builders.ct_series(slices=4, size=16)
    selection, said = ct(sources)
    made = build(selection, sources, said, dataclasses.replace(STYLE, series_number=1200), "d", 1, [], NOW)
    assert {m.kind: m.dataset.SeriesNumber for m in made} == {"seg": 1200, "sr": 1201}


def test_the_same_input_and_bundle_give_the_same_objects_bit_by_bit():
    sources = builders.ct_series(slices=4, size=16)
    selection, said = ct(sources)

    def made(digest: str = "d", bundle: str = "ab", revision: int = 1) -> list[Dataset]:
        identity = dataclasses.replace(said.bundle, digest=bundle * 32)
        assessment = dataclasses.replace(said, bundle=identity)
        return [m.dataset for m in build(selection, sources, assessment, STYLE, digest, revision, [], NOW)]

    assert [written(d) for d in made()] == [written(d) for d in made()]
    assert [d.SOPInstanceUID for d in made()] == [d.SOPInstanceUID for d in made(revision=2)]
    uids = [tuple(d.SOPInstanceUID for d in made(*key)) for key in (("d", "ab"), ("e", "ab"), ("d", "cd"))]
    assert len({uid for pair in uids for uid in pair}) == 6


def test_images_of_two_studies_are_not_reported_together():
    sources = [*builders.ct_series(slices=2, size=16), *builders.ct_series(study=2, slices=2, size=16)]
    selection, said = ct(sources)
    with pytest.raises(UnusableStudy):
        build(selection, sources, said, STYLE, "d", 1, [], NOW)


def test_a_measurement_that_is_not_a_number_is_our_defect():
    sources = builders.ct_series(slices=4, size=16)
    selection, said = ct(sources)
    broken = dataclasses.replace(said.measurements[0], value=float("nan"))
    with pytest.raises(Defect):
        build(selection, sources, dataclasses.replace(said, measurements=(broken,)), STYLE, "d", 1, [], NOW)


def test_a_comparison_that_is_known_last_gives_the_same_objects_as_one_that_was_known_first():
    sources = builders.ct_series(slices=4, size=16)
    selection, said = ct(sources)
    where = str(sources[2].SOPInstanceUID)
    compared = dataclasses.replace(said, lesions=(
        Lesion(1, builders.uid(7), 1.5, (1.0, 2.0, 3.0), ((1.0, 2.0, 3.0),), "Right", where),))
    comparison = Comparison(builders.uid(8), "20250102", (), (), ("another scanner",))
    first = build(selection, sources, compared, STYLE, "d", 1, [], NOW, compared=lambda: (compared, comparison))
    asked: list[str] = []

    def known_last() -> tuple[Assessment, Comparison]:
        asked.append("asked")
        return compared, comparison

    last = build(selection, sources, said, STYLE, "d", 1, [], NOW, compared=known_last)
    assert [written(m.dataset) for m in last] == [written(m.dataset) for m in first]
    without = build(selection, sources, said, STYLE, "d", 1, [], NOW)
    assert asked == ["asked"] and written(last[-1].dataset) != written(without[-1].dataset)


def test_others_may_go_first_before_the_report_is_made_and_between_the_objects():
    sources = builders.ct_series(slices=4, size=16)
    selection, said = ct(sources)
    told: list[str] = []

    def known_last() -> tuple[Assessment, None]:
        told.append("compared")
        return said, None

    build(selection, sources, said, STYLE, "d", 1, [], NOW, compared=known_last, give_way=lambda: told.append("gave way"))
    assert told == ["gave way", "gave way", "compared"]
