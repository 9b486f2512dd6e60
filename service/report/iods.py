"""What highdicom looks up in the tables of the standard once for each image, looked up once for each SOP class.

Whether an IOD has an attribute goes by the class alone, and a search takes a third of a millisecond: for a CT of 300 slices
a tenth of a second. Relied on in highdicom 0.28.2: `_standard_utils.is_attribute_in_iod`, which the module itself calls by
that name.
"""

from __future__ import annotations

from functools import lru_cache

from highdicom import _standard_utils

_search = _standard_utils.is_attribute_in_iod
_known = lru_cache(maxsize=1024)(_search)


def is_attribute_in_iod(attribute: str, sop_class_uid: str, exclude_path_elements: list[str] | None = None) -> bool:
    """Tell whether an IOD has an attribute, as highdicom's function of this name; without exclusions from memory."""
    if exclude_path_elements is not None:
        return bool(_search(attribute, sop_class_uid, exclude_path_elements))
    return bool(_known(attribute, str(sop_class_uid)))


def remember() -> None:
    """Have highdicom ask here."""
    _standard_utils.is_attribute_in_iod = is_attribute_in_iod
