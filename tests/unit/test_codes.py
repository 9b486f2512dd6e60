"""Each code of ours means what it says: as in pydicom's dictionaries of PS3.16, or as a person reviewed it."""

from __future__ import annotations

import pytest
from pydicom.sr._concepts_dict import concepts

from service.domain import codes
from service.domain.codes import PRIVATE_SCHEME, Code

REVIEWED = {  # not in pydicom's dictionaries, and why each is right
    Code("233604007", "SCT", "Pneumonia"): "SNOMED CT; 23360400, met in samples, is a typing error",
    Code("882784691000119100", "SCT", "Pneumonia caused by SARS-CoV-2"): "SNOMED CT, US edition; 18 characters",
    Code("95436008", "SCT", "Lung consolidation"): "SNOMED CT, Lung consolidation (disorder)",
    Code("46621007", "SCT", "Atelectasis"): "SNOMED CT",
    Code("8186001", "SCT", "Cardiomegaly"): "SNOMED CT; 287272002 in CID 12248 is an enlarged septal foramen",
    Code("87433001", "SCT", "Pulmonary emphysema"): "SNOMED CT, Pulmonary emphysema (disorder)",
    Code("39839004", "SCT", "Diaphragmatic hernia"): "SNOMED CT, Diaphragmatic hernia (disorder); FHIR examples use it too",
    Code("PLEURALTHICK", PRIVATE_SCHEME, "Pleural thickening"): "no code of a public scheme could be checked, so our own",
    Code("373572006", "SCT", "Clinical finding absent"): "SNOMED CT; the concept name that AIR samples give",
    Code("en-US", "RFC5646", "English (United States)"): "RFC 5646",
    Code("30745-4", "LN", "XR Chest Views"): "LOINC",
    Code("36643-5", "LN", "XR Chest 2 Views"): "LOINC",
    Code("36572-6", "LN", "XR Chest AP"): "LOINC",
    Code("PCTINVOLVED", PRIVATE_SCHEME, "Percent of lung involved"): "no standard code",
    Code("SEVERITY25", PRIVATE_SCHEME, "Extent score by five lung zones, range 0 to 25"): "no standard code",
    Code("NOTASSESSED", PRIVATE_SCHEME, "Reason the study was not assessed"): "no standard code",
}
TRAPS = {  # codes that pydicom or a sample names wrongly: 287272002 is a foramen, 23360400 a typing error
    "287272002", "23360400", "RID35057"}


@pytest.mark.parametrize("name", codes.BY_NAME)
def test_code_means_what_the_standard_says(name):
    code = codes.BY_NAME[name]
    known = [by_value[code.value][0] for by_value in concepts.get(code.scheme, {}).values() if code.value in by_value]
    assert code in REVIEWED or code.meaning in known


def test_the_reviewed_list_holds_only_codes_that_are_used():
    assert set(codes.BY_NAME.values()) >= set(REVIEWED)
    listed = {c for c in REVIEWED if any(c.value in by for by in concepts.get(c.scheme, {}).values())}
    assert not listed, "pydicom's dictionaries know these: take them from there"


@pytest.mark.parametrize("name", codes.BY_NAME)
def test_code_stands_in_the_context_group_that_it_is_said_to_be_from(name):
    code = codes.BY_NAME[name]
    groups = {cid for by in concepts.get(code.scheme, {}).values() if code.value in by for cid in by[code.value][1]}
    assert code.context_group in groups if groups else code.context_group == 0


@pytest.mark.parametrize("name", codes.BY_NAME)
def test_code_fits_its_attributes(name):
    code = codes.BY_NAME[name]
    assert 0 < len(code.meaning) <= 64
    assert len(code.scheme) <= 16
    assert code.value not in TRAPS


def test_no_two_names_stand_for_one_code():
    pairs = [(c.value, c.scheme) for c in codes.BY_NAME.values()]
    assert len(pairs) == len(set(pairs))
