"""The ONNX files of a bundle: one network in several precisions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Precision(StrEnum):
    """The arithmetic of an ONNX file."""

    FP32 = "fp32"
    INT8 = "int8"
    FP16 = "fp16"


class Use(StrEnum):
    """Where an ONNX file is used rather than another; "" for one that is only kept."""

    CPU = "cpu"
    GPU = "gpu"
    NOWHERE = ""


@dataclass(frozen=True)
class Variant:
    """One ONNX file of a bundle: its sha256, and where it is used."""

    precision: Precision
    sha256: str
    use: Use = Use.NOWHERE

    @property
    def file_name(self) -> str:
        """The name of its file in the bundle's folder."""
        return "model.onnx" if self.precision is Precision.FP32 else f"model.{self.precision}.onnx"
