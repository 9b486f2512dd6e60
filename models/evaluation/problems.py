"""What is wrong with a data folder: every row or file that is skipped is named and counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Problems:
    """Collects rows (what, why) and the parts of the layout that are absent."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    def skip(self, what: str, why: str) -> None:
        """Note one row or file that is not used, or not used fully."""
        self.rows.append((what, why))

    def by_kind(self) -> Counter[str]:
        """Return how often each reason occurs; what follows a colon is left out."""
        return Counter(why.split(":")[0] for _, why in self.rows)
