"""Identities that follow from content, so that the same input and the same model give the same UIDs."""

from __future__ import annotations

import hashlib


def device_uid(digest: str) -> str:
    """Return the Device UID (0018,1002) of a model: new weights are a new device (AIR Rev 1.3, 6.5.3.1).

    digest: sha256 of model.onnx in hex. Returns a UID below 2.25 (PS3.5 B.2), at most 44 characters: the decimal form
    of the first 16 bytes of the sha256 of the digest's lower-case text.
    """
    first = hashlib.sha256(digest.lower().encode("ascii")).digest()[:16]
    return f"2.25.{int.from_bytes(first, 'big')}"


def frame_uid(sop_instance_uid: str, number: int) -> str:
    """Return a UID for one frame of a multi-frame image, so that frames can be told apart like images; never sent.

    number: from 1. Returns a UID below 2.25, at most 44 characters.
    """
    first = hashlib.sha256(f"frame {number} of {sop_instance_uid}".encode("ascii")).digest()[:16]
    return f"2.25.{int.from_bytes(first, 'big')}"
