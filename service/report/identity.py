"""Who made an object, and which UIDs it gets: both follow from content, so that a retry makes the same object again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import highdicom as hd
from pydicom.dataset import Dataset

from service.domain import codes
from service.domain.finding import BundleIdentity
from service.domain.identity import device_uid
from service.report.coded import concept

MANUFACTURER = "firstlook"
DISCLAIMER = "Research use only. Not for clinical diagnosis."


def derived_uid(*parts: str) -> str:
    """Return the UID below 2.25 (PS3.5 B.2) that belongs to these texts; the same texts always give the same UID.

    Returns at most 44 characters: the decimal form of the first 16 bytes of a sha256 over the parts.
    """
    text = "\x1f".join(("firstlook", *parts))
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode('utf-8')).digest()[:16], 'big')}"


IMPLEMENTATION_CLASS_UID = derived_uid("implementation class")


@dataclass(frozen=True)
class Equipment:
    """What General Equipment, Contributing Equipment and the device observer say alike (AIR Rev 1.3, 6.5.3.1)."""

    model_name: str
    software_version: str
    serial_number: str
    device_uid: str
    title: str


def equipment_of(bundle: BundleIdentity | None, software_version: str) -> Equipment:
    """Return the equipment of a bundle, or of the service itself when no model spoke.

    software_version: of the service; it counts only when bundle is None.
    """
    if bundle is None:
        own = derived_uid("device", software_version)
        return Equipment("firstlook-service", software_version, software_version, own, "firstlook study admission")
    return Equipment(
        model_name=bundle.name, software_version=bundle.version, serial_number=bundle.digest,
        device_uid=bundle.device_uid or device_uid(bundle.digest), title=bundle.title,
    )


def stamp_equipment(
    made: Dataset, equipment: Equipment, institution_name: str, software_version: str,
    contributors: Sequence[Equipment] = (),
) -> None:
    """Write General Equipment, and an item of Contributing Equipment with its Device UID (0018,1002) for each model.

    contributors: the models that had a part in the object, the leading one first; empty: `equipment` alone. Replaces
    what was there. See PS3.3 C.7.5.1 and C.12.1.1.5.
    """
    made.Manufacturer, made.ManufacturerModelName = MANUFACTURER, equipment.model_name
    made.SoftwareVersions, made.DeviceSerialNumber = equipment.software_version, equipment.serial_number
    if institution_name:
        made.InstitutionName = institution_name
    made.ContributingEquipmentSequence = [_item(each, software_version) for each in contributors or (equipment,)]


def _item(equipment: Equipment, software_version: str) -> hd.ContributingEquipment:
    item = hd.ContributingEquipment(
        manufacturer=MANUFACTURER, purpose_of_reference=concept(codes.PROCESSING_EQUIPMENT),
        manufacturer_model_name=equipment.model_name, software_versions=equipment.software_version,
        device_serial_number=equipment.serial_number,
        contribution_description=f"Automatic image analysis by firstlook {software_version}",
    )
    item.DeviceUID = equipment.device_uid
    return item
