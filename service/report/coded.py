"""Our codes as highdicom's coded concepts, and the private ones declared."""

from __future__ import annotations

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset

from service.domain.codes import PRIVATE_SCHEME, Code


def concept(code: Code) -> CodedConcept:
    """Return the code as an item of a code sequence (PS3.3 8.8); a value over 16 characters becomes Long Code Value."""
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def declare_private_scheme(made: Dataset) -> None:
    """Name our private coding scheme in Coding Scheme Identification Sequence (0008,0110), PS3.3 C.12.1."""
    made.CodingSchemeIdentificationSequence = [
        CodingSchemeIdentificationItem(
            designator=PRIVATE_SCHEME, name="firstlook private concepts", responsible_organization="firstlook project")
    ]
