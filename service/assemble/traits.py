"""What the labels of an image tell that a reader of it must know: kernel, contrast, breath, position, age, species."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

from service.domain.study import Header, age_years


class Kernel(StrEnum):
    """What a reconstruction kernel is made for; UNKNOWN: its name does not tell."""

    LUNG = "lung"
    SOFT = "soft"
    UNKNOWN = ""


_SHARP = re.compile(r"LUNG|BONE|EDGE|SHARP|HRCT|\bB[RLVPU]?[5-8]\d|\bFC(5|8)\d|\bY[A-D]\b|\bL\b|\bE\b|\bD\b", re.I)
_SOFT = re.compile(r"STANDARD|STND|SOFT|SMOOTH|DETAIL|BODY|\bB[RVPU]?[1-4]\d|\bFC(0|1|2)\d|\b[ABC]\b", re.I)
_EXPIRATION = re.compile(r"\b(expir\w*|exsp\w*|exhal\w*|exp)\b", re.I)
_NO_CONTRAST = re.compile(r"no(ne)?|n/?a|without|native|-+", re.I)
_RECONSTRUCTED = frozenset({"MIP", "MINIP", "MPR", "MPR2", "CPR", "VRT", "SSD", "AVERAGE", "PROJECTION IMAGE", "CURVED",
                            "VR", "SCREEN SAVE", "3D"})
_UPSIDE_DOWN = {"P": "prone", "DL": "lying on the left side", "DR": "lying on the right side"}
_HUMAN = re.compile(r"homo sapiens|human", re.I)


def kernel_of(header: Header) -> Kernel:
    """Tell what Convolution Kernel (0018,1210) is made for, by the names that makers give."""
    name = re.sub(r"[_\\]+", " ", header.convolution_kernel)
    if _SHARP.search(name):
        return Kernel.LUNG
    return Kernel.SOFT if _SOFT.search(name) else Kernel.UNKNOWN


def is_expiration(header: Header) -> bool:
    """Tell whether a series is labelled as taken in expiration."""
    return bool(_EXPIRATION.search(_words(f"{header.series_description} {header.protocol_name}")))


def is_reconstructed(header: Header) -> bool:
    """Tell whether an image is derived from others, or a projection or reformation of them (PS3.3 C.7.6.1.1.2)."""
    kind = header.image_type
    return kind[:1] == ("DERIVED",) or kind[1:2] == ("SECONDARY",) or any(k.upper() in _RECONSTRUCTED for k in kind[2:])


def is_animal(header: Header) -> bool:
    """Tell whether the patient is stated to be of another species than man; nothing stated: a person."""
    species = header.patient_species_description or header.patient_species_code_meaning
    return bool(species) and not _HUMAN.search(species)


def limits(header: Header) -> list[str]:
    """Return what an image's labels say that limits any result of it, in words."""
    notes = []
    years = age_years(header)
    if years is not None and years < 18:
        notes.append("the patient is under 18; the model's figures are for adults unless its card says otherwise")
    if header.modality == "CT" and header.lossy_image_compression == "01":
        notes.append("the image has been lossy compressed")
    return notes


def limits_of_series(series: Sequence[Header], kernel: Kernel) -> list[str]:
    """Return what limits the result of a CT series, in words. kernel: the one that is wished for, UNKNOWN for any."""
    first = series[0]
    notes = limits(first)
    if kernel is not Kernel.UNKNOWN and kernel_of(first) is not kernel:
        notes.append(f"no series with a {kernel} kernel could be used; that of this one is "
                     f"{first.convolution_kernel or 'not named'}")
    if first.contrast_bolus_agent and not _NO_CONTRAST.fullmatch(first.contrast_bolus_agent):
        notes.append("contrast medium was given: attenuation and ground glass are not those of a native scan")
    if is_expiration(first):
        notes.append("the series is labelled as expiration: attenuation and ground glass cannot be judged by it")
    lying = first.patient_position.upper()[2:]
    if lying in _UPSIDE_DOWN:
        notes.append(f"the patient was {_UPSIDE_DOWN[lying]} (Patient Position {first.patient_position})")
    return notes


def _words(label: str) -> str:
    """Return a label with its separators as spaces: THORAX_EXSP is two words."""
    return re.sub(r"[_\-./,;:()]+", " ", label)
