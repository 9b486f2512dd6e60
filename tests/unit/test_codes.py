"""Each code of ours means what it says: as in pydicom's dictionaries of PS3.16, or as a person reviewed it."""

from __future__ import annotations

import pytest
from pydicom.sr._concepts_dict import concepts

from service.domain import codes
from service.domain.codes import PRIVATE_SCHEME, Code

REVIEWED = {  # not in pydicom's dictionaries; checked against SNOMED CT, LOINC or, for our own scheme, this code base
    Code("233604007", "SCT", "Pneumonia"),
    Code("882784691000119100", "SCT", "Pneumonia caused by SARS-CoV-2"),
    Code("95436008", "SCT", "Lung consolidation"),
    Code("46621007", "SCT", "Atelectasis"),
    Code("8186001", "SCT", "Cardiomegaly"),
    Code("87433001", "SCT", "Pulmonary emphysema"),
    Code("39839004", "SCT", "Diaphragmatic hernia"),
    Code("PLEURALTHICK", PRIVATE_SCHEME, "Pleural thickening"),
    Code("373572006", "SCT", "Clinical finding absent"),
    Code("30745-4", "LN", "XR Chest Views"),
    Code("36643-5", "LN", "XR Chest 2 Views"),
    Code("36572-6", "LN", "XR Chest AP"),
    Code("PCTINVOLVED", PRIVATE_SCHEME, "Percent of lung involved"),
    Code("SEVERITY25", PRIVATE_SCHEME, "Extent score by five lung zones, range 0 to 25"),
    Code("NOTASSESSED", PRIVATE_SCHEME, "Reason the study was not assessed"),
}
TRAPS = {  # codes that pydicom or a sample names wrongly: 287272002 is a foramen, 23360400 a typing error
    "287272002", "23360400", "RID35057"}


@pytest.mark.parametrize("name", codes.BY_NAME)
def test_code_means_what_the_standard_says(name):
    code = codes.BY_NAME[name]
    known = [by_value[code.value][0] for by_value in concepts.get(code.scheme, {}).values() if code.value in by_value]
    assert code in REVIEWED or code.meaning in known


def test_the_reviewed_list_holds_only_codes_that_are_used():
    assert set(codes.BY_NAME.values()) >= REVIEWED


@pytest.mark.parametrize("name", codes.BY_NAME)
def test_code_fits_its_attributes(name):
    code = codes.BY_NAME[name]
    assert 0 < len(code.meaning) <= 64
    assert len(code.scheme) <= 16
    assert code.value not in TRAPS


def test_no_two_names_stand_for_one_code():
    pairs = [(c.value, c.scheme) for c in codes.BY_NAME.values()]
    assert len(pairs) == len(set(pairs))
