"""UIDs and equipment follow from content."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset
from pydicom.uid import UID

from service.domain.finding import BundleIdentity
from service.domain.identity import device_uid
from service.report.identity import derived_uid, equipment_of, stamp_equipment

BUNDLE = BundleIdentity("ct-lung-infection", "1.0.0", "ab" * 32, "Lung infection on CT", "")


def test_the_same_texts_give_the_same_valid_uid():
    assert derived_uid("1.2.3", "seg") == derived_uid("1.2.3", "seg")
    assert UID(derived_uid("1.2.3", "seg")).is_valid
    assert re.fullmatch(r"2\.25\.\d{1,39}", derived_uid("1.2.3", "seg"))


def test_other_texts_give_another_uid_and_texts_do_not_run_into_each_other():
    assert len({derived_uid("a", "b"), derived_uid("ab"), derived_uid("a", "c"), derived_uid("", "ab")}) == 4


def test_new_weights_are_a_new_device():
    other = BundleIdentity("ct-lung-infection", "1.0.0", "cd" * 32, "Lung infection on CT", "")
    assert equipment_of(BUNDLE, "0.1").device_uid == device_uid("ab" * 32)
    assert equipment_of(BUNDLE, "0.1").device_uid != equipment_of(other, "0.1").device_uid


def test_contributing_equipment_says_what_general_equipment_says():
    made = Dataset()
    stamp_equipment(made, equipment_of(BUNDLE, "0.1"), "Test Hospital", "0.1")
    (item,) = made.ContributingEquipmentSequence
    for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber"):
        assert made[keyword].value == item[keyword].value
    assert (made.ManufacturerModelName, made.SoftwareVersions) == ("ct-lung-infection", "1.0.0")
    assert item.DeviceUID == device_uid("ab" * 32)
    assert item.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Processing Equipment"


def test_each_model_is_an_item_of_contributing_equipment_and_the_leading_one_is_the_equipment():
    other = BundleIdentity("ct-pattern", "2.0.0", "cd" * 32, "Pattern", "")
    made, both = Dataset(), (equipment_of(BUNDLE, "0.1"), equipment_of(other, "0.1"))
    stamp_equipment(made, both[0], "", "0.1", both)
    assert [i.ManufacturerModelName for i in made.ContributingEquipmentSequence] == ["ct-lung-infection", "ct-pattern"]
    assert [i.DeviceUID for i in made.ContributingEquipmentSequence] == [device_uid("ab" * 32), device_uid("cd" * 32)]
    assert made.ManufacturerModelName == "ct-lung-infection"


def test_the_service_speaks_for_itself_when_no_model_did():
    assert equipment_of(None, "0.1").model_name == "firstlook-service"
    assert equipment_of(None, "0.1").device_uid != equipment_of(None, "0.2").device_uid
