"""One study on its way through the demo."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ENDED = ("assessed", "not_assessed", "failed")


@dataclass
class Followed:
    """What the demo knows of one study: sent when, and what the service's API says of it."""

    study_instance_uid: str
    files: list[Path]
    sent: bool = False
    error: str = ""
    said: dict[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether the result, or the refusal, is in the PACS."""
        return self.said.get("state") in _ENDED and self.said.get("delivery") in ("delivered", "parked")
