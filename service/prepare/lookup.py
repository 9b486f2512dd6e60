"""Look-up tables of the Modality and VOI LUT sequences (PS3.3 C.11.1.1, C.11.2.1.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset


@dataclass(frozen=True, eq=False)
class LookupTable:
    """A table of output values. first: the input that maps to entry 0; highest: the largest output, by its bits."""

    first: int
    entries: NDArray[np.float32]
    highest: int

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Map values, any shape; below the first entry the first is taken, above the last the last."""
        index = np.clip(np.rint(values).astype(np.int64) - self.first, 0, len(self.entries) - 1)
        mapped: NDArray[np.float32] = self.entries[index]
        return mapped


def lookup_table(item: Dataset, signed: bool) -> LookupTable | None:
    """Read LUTDescriptor and LUTData of a sequence item; None when they are absent or do not agree.

    signed: whether the input values are signed, which decides how the first mapped value is read.
    """
    try:
        count, first, bits = (int(v) for v in item.LUTDescriptor)
        entries = _entries(item["LUTData"].value, count or 65536)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    if entries is None or not 8 <= bits <= 16:
        return None
    if signed and first > 32767:
        first -= 65536
    if not signed and first < 0:
        first += 65536
    highest = max(2**bits - 1, int(entries.max()))
    return LookupTable(first, entries.astype(np.float32), highest)


def _entries(data: object, count: int) -> NDArray[Any] | None:
    """Return `count` entries from numbers (VR US) or bytes (VR OW: 16 bits each, or 8 bits packed)."""
    if isinstance(data, bytes):
        if len(data) == 2 * count:
            return np.frombuffer(data, "<u2")
        return np.frombuffer(data, np.uint8)[:count] if len(data) in (count, count + count % 2) else None
    values = np.atleast_1d(np.asarray(data, np.int64)) & 0xFFFF
    if len(values) == count:
        return values
    if len(values) == (count + 1) // 2:
        return np.asarray(values, "<u2").view(np.uint8)[:count]
    return None
