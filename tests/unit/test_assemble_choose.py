"""Which images are chosen, and which studies are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.assemble.choose import choose
from service.assemble.geometry import GeometryRules
from service.assemble.traits import Kernel, kernel_of
from service.domain.study import (
    CR_IMAGE_STORAGE,
    DX_FOR_PRESENTATION,
    ENHANCED_CT_IMAGE_STORAGE,
    Header,
    Kind,
    Selection,
)
from service.errors import Reason, UnusableStudy
from tests.unit.test_assemble_geometry import slices

RULES = GeometryRules(min_slices=5, max_slice_gap_mm=5.0)


def pick(*headers: Header) -> Selection:
    return choose(headers, RULES, lambda one, other: True)


def refusal(*headers: Header) -> Reason:
    with pytest.raises(UnusableStudy) as caught:
        pick(*headers)
    return caught.value.reason


def frontal(**changes: object) -> Header:
    base = Header(
        sop_instance_uid="1.5.1", sop_class_uid=DX_FOR_PRESENTATION, study_instance_uid="1.2", series_instance_uid="1.5",
        modality="DX", view_position="PA", body_part_examined="CHEST", patient_age="050Y", series_number=1,
        instance_number=1)
    return replace(base, **changes)


def test_thin_series_is_preferred_to_thick_and_the_rest_is_set_aside_with_reasons() -> None:
    thick = slices(spacing_mm=5.0, series_instance_uid="1.3.1")
    thin = slices(spacing_mm=1.5, count=20, series_instance_uid="1.3.2")
    scout = [replace(h, series_instance_uid="1.3.3", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")) for h in slices(2)]
    chosen = pick(*thick, *thin, *scout)
    assert chosen.kind is Kind.CT and chosen.series_instance_uid == "1.3.2"
    assert {(a.series_instance_uid, a.reason) for a in chosen.set_aside} == {
        ("1.3.1", "not_preferred"), ("1.3.3", "localizer_only")}
    assert "thin slices" in chosen.reason


def test_of_two_equal_series_the_longer_coverage_wins() -> None:
    short, long = slices(10, series_instance_uid="1.3.1"), slices(14, series_instance_uid="1.3.2")
    assert pick(*short, *long).series_instance_uid == "1.3.2"


@pytest.mark.parametrize(("changes", "reason"), [
    ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, Reason.LOCALIZER_ONLY),
    ({"image_type": ("DERIVED", "SECONDARY", "MPR")}, Reason.DERIVED_ONLY),
    ({"sop_class_uid": ENHANCED_CT_IMAGE_STORAGE}, Reason.MULTIFRAME),
    ({"rescale_slope": 0.0}, Reason.INVALID_RESCALE),
    ({"rescale_intercept": None}, Reason.INVALID_RESCALE),
])
def test_ct_without_a_usable_series_says_why(changes: dict[str, object], reason: Reason) -> None:
    assert refusal(*slices(**changes)) is reason


def test_the_most_telling_reason_is_given_when_several_series_fail() -> None:
    gapped = slices(series_instance_uid="1.3.2")
    del gapped[3:6]
    scout = slices(3, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    assert refusal(*scout, *gapped) is Reason.MISSING_SLICES


def test_repeated_acquisition_is_split_and_the_largest_part_used() -> None:
    first = slices(12, acquisition_number=1)
    second = [replace(h, sop_instance_uid=h.sop_instance_uid + ".9", acquisition_number=2) for h in slices(10)]
    chosen = pick(*first, *second)
    assert len(chosen.headers) == 12 and "2 acquisitions" in chosen.limitations[0]


@pytest.mark.parametrize(("changes", "reason"), [
    ({"view_position": "LL"}, Reason.LATERAL_VIEW),
    ({"view_position": "LATERAL"}, Reason.LATERAL_VIEW),
    ({"view_position": "", "view_code_meaning": "Left lateral"}, Reason.LATERAL_VIEW),
    ({"view_position": "", "series_description": "Chest LAT"}, Reason.LATERAL_VIEW),
    ({"presentation_intent_type": "FOR PROCESSING"}, Reason.FOR_PROCESSING),
    ({"body_part_examined": "HAND", "view_position": "AP"}, Reason.NOT_CHEST),
    ({"body_part_examined": "KNEE", "study_description": "Polytrauma chest pelvis knee"}, Reason.NOT_CHEST),
    ({"body_part_examined": "", "series_description": "Skull AP", "study_description": "chest, skull"}, Reason.NOT_CHEST),
    ({"body_part_examined": "", "study_description": "Hand 2 views"}, Reason.NOT_CHEST),
    ({"body_part_examined": "XYZ"}, Reason.NOT_CHEST),
    ({"view_position": "", "series_description": "THORAX_LAT"}, Reason.LATERAL_VIEW),
    ({"view_position": "", "protocol_name": "Thorax lat"}, Reason.LATERAL_VIEW),
    ({"view_position": "", "series_description": "Thorax seitl."}, Reason.LATERAL_VIEW),
    ({"view_position": "", "study_description": "Thorax profil"}, Reason.LATERAL_VIEW),
    ({"patient_orientation": ("A", "F")}, Reason.LATERAL_VIEW),
    ({"patient_orientation": ("F", "L")}, Reason.ROTATED_IMAGE),
    ({"number_of_frames": 30}, Reason.MULTIFRAME),
])
def test_radiograph_that_no_model_may_read_is_refused(changes: dict[str, object], reason: Reason) -> None:
    assert refusal(frontal(**changes)) is reason


@pytest.mark.parametrize("changes", [
    {"body_part_examined": "", "study_description": "Chest and abdomen"},
    {"body_part_examined": "", "view_position": "", "series_description": "CHEST_PA"},
    {"body_part_examined": "", "study_description": ""},
    {"body_part_examined": "XYZ", "series_description": "Thorax ap"},
    {"patient_orientation": ("L", "F")}, {"patient_orientation": ("R", "F")}, {"patient_orientation": ("L",)},
    {"view_position": "", "series_description": "Thorax pa", "study_description": "Thorax pa und seitlich"},
])
def test_radiograph_of_the_chest_from_the_front_is_read(changes: dict[str, object]) -> None:
    assert len(pick(frontal(**changes)).headers) == 1


def test_an_issuer_that_is_missing_on_one_image_is_no_other_patient() -> None:
    one, other = frontal(issuer_of_patient_id="HOSP"), frontal(sop_instance_uid="1.5.2")
    assert len(pick(one, other).headers) == 2
    with pytest.raises(UnusableStudy):
        pick(one, replace(other, issuer_of_patient_id="CLINIC"))


def test_frontal_is_read_and_its_lateral_set_aside() -> None:
    lateral = frontal(sop_instance_uid="1.5.2", view_position="LL", instance_number=2)
    chosen = pick(lateral, frontal(), frontal(sop_instance_uid="1.5.0", sop_class_uid=CR_IMAGE_STORAGE, series_number=0))
    assert [h.sop_instance_uid for h in chosen.headers] == ["1.5.0", "1.5.1"]
    assert [a.reason for a in chosen.set_aside] == [Reason.LATERAL_VIEW]


def test_unstated_view_youth_and_lossy_pixels_are_limitations() -> None:
    notes = pick(frontal(view_position="", patient_age="009M")).limitations
    assert len(notes) == 2 and "not stated" in notes[0] and "under 18" in notes[1]
    assert "lossy" in pick(*slices(modality="CT", lossy_image_compression="01")).limitations[0]
    by_birth_date = frontal(patient_age="", patient_birth_date="20200101", study_date="20260101")
    assert "under 18" in pick(by_birth_date).limitations[0]


def test_study_with_two_patients_is_held() -> None:
    assert refusal(frontal(patient_id="A"), frontal(patient_id="B", sop_instance_uid="1.5.2")) is Reason.PATIENT_MISMATCH


def test_study_without_images_that_can_be_read_says_so() -> None:
    assert refusal(frontal(sop_class_uid="1.2.840.10008.5.1.4.1.1.4")) is Reason.NO_SUPPORTED_IMAGES


def test_of_equally_thin_series_the_wished_kernel_wins_and_its_absence_is_told() -> None:
    soft = slices(14, series_instance_uid="1.3.1", convolution_kernel="B30f")
    sharp = slices(12, series_instance_uid="1.3.2", convolution_kernel="B70f")
    for kernel, uid in ((Kernel.LUNG, "1.3.2"), (Kernel.SOFT, "1.3.1"), (Kernel.UNKNOWN, "1.3.1")):
        rules = replace(RULES, kernel=kernel)
        assert choose([*soft, *sharp], rules, lambda one, other: True).series_instance_uid == uid
    alone = choose(soft, replace(RULES, kernel=Kernel.LUNG), lambda one, other: True)
    assert alone.limitations == ("no series with a lung kernel could be used; that of this one is B30f",)


@pytest.mark.parametrize(("name", "kernel"), [
    ("B70f", Kernel.LUNG), ("Bl57d\\3", Kernel.LUNG), ("LUNG", Kernel.LUNG), ("BONEPLUS", Kernel.LUNG),
    ("FC51", Kernel.LUNG), ("B31f", Kernel.SOFT), ("Br40d\\3", Kernel.SOFT), ("STANDARD", Kernel.SOFT),
    ("FC13", Kernel.SOFT), ("B", Kernel.SOFT),
    ("YA", Kernel.LUNG), ("", Kernel.UNKNOWN), ("xyz", Kernel.UNKNOWN)])
def test_kernels_are_told_by_the_names_of_their_makers(name: str, kernel: Kernel) -> None:
    assert kernel_of(slices(1, convolution_kernel=name)[0]) is kernel


def test_expiration_is_read_only_when_there_is_nothing_else() -> None:
    expiration = slices(20, spacing_mm=1.0, series_instance_uid="1.3.1", series_description="Thorax EXSP 1mm")
    thick = slices(10, spacing_mm=5.0, series_instance_uid="1.3.2", series_description="Thorax INSP 5mm")
    assert pick(*expiration, *thick).series_instance_uid == "1.3.2"
    assert "labelled as expiration" in pick(*expiration).limitations[0]


def test_of_thick_series_the_thinnest_is_read() -> None:
    thick = slices(20, spacing_mm=5.0, series_instance_uid="1.3.1")
    less = slices(10, spacing_mm=4.0, series_instance_uid="1.3.2")
    assert pick(*thick, *less).series_instance_uid == "1.3.2"


def test_a_few_images_that_lie_otherwise_are_scouts_and_many_are_another_volume() -> None:
    axial = slices(40)
    coronal = [replace(h, sop_instance_uid=f"{h.sop_instance_uid}.9", image_orientation_patient=(1, 0, 0, 0, 0, -1))
               for h in axial]
    chosen = pick(*axial, *coronal[:2])
    assert len(chosen.headers) == 40 and "2 localizer or derived" in chosen.limitations[0]
    assert refusal(*axial, *coronal[:10]) is Reason.VARIABLE_GEOMETRY


@pytest.mark.parametrize("agent", ["", "NONE", "no", "N/A", "without"])
def test_no_contrast_is_written_in_many_ways(agent: str) -> None:
    assert pick(*slices(contrast_bolus_agent=agent)).limitations == ()


def test_the_patient_lies_on_the_belly_or_side() -> None:
    said = [pick(*slices(patient_position=p)).limitations for p in ("HFS", "FFS", "HFP", "FFDR")]
    assert said[:2] == [(), ()]
    assert [words in said[n][0] for n, words in ((2, "prone"), (3, "right side"))] == [True, True]
