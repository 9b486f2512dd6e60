"""What a segmentation or report that was sent back says: which findings are there, and where the segments lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.domain.finding import Presence

NAMES = {"seg": "segmentation", "sr": "report"}
"""What each kind of object is called."""


class Unfit(ValueError):
    """An object that cannot be used as feedback. The text says why, without a word of the object itself."""


@dataclass(frozen=True)
class Redrawn:
    """One of our segments as a person drew it. label: as we call it; volumes in millilitres.

    ours_ml: of our own, None where we drew none; dice: overlap of the two, 0 to 1, None where there is only one.
    """

    label: str
    volume_ml: float
    ours_ml: float | None = None
    dice: float | None = None

    @property
    def words(self) -> str:
        """The segment in words: "infection 12.3 ml (ours 13.1 ml, Dice 0.91)"."""
        if self.ours_ml is None or self.dice is None:
            return f"{self.label} {self.volume_ml:.1f} ml (none of ours)"
        return f"{self.label} {self.volume_ml:.1f} ml (ours {self.ours_ml:.1f} ml, Dice {self.dice:.2f})"


@dataclass(frozen=True)
class Said:
    """presence: by the code value of a finding (`domain.codes`); segments: those that are ours; others: how many are not.

    verified: a report that a person signed; replaces: it names our report as its predecessor.
    """

    presence: Mapping[str, Presence] = field(default_factory=dict)
    segments: Sequence[Redrawn] = ()
    others: int = 0
    verified: bool = False
    replaces: bool = False

    def words(self, kind: str, sender: str) -> str:
        """Return it in words: "a segmentation from VIEWER: infection 12.3 ml (ours 13.1 ml, Dice 0.91)"."""
        told = [one.words for one in self.segments]
        told += [f"{self.others} other segments"] if self.others else []
        told += ["verified"] if self.verified else []
        told += ["in place of our report"] if self.replaces else []
        return f"a {NAMES[kind]} from {sender}" + (f": {', '.join(told)}" if told else "")

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {"presence": {code: str(value) for code, value in self.presence.items()},
                "segments": [vars(one) for one in self.segments], "others": self.others, "verified": self.verified,
                "replaces": self.replaces}

    @staticmethod
    def of_json(tree: Mapping[str, Any]) -> Said:
        """Read what `to_json` wrote."""
        return Said({code: Presence(value) for code, value in tree.get("presence", {}).items()},
                    [Redrawn(**one) for one in tree.get("segments", ())], int(tree.get("others", 0)),
                    bool(tree.get("verified")), bool(tree.get("replaces")))
