"""What a split holds out, by the names that `held_out.json` of a bundle has."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Names:
    """images: `file` of labels.csv, or paths in ct_slices; cases: folders of ct_lesions; lung_slices: files of ct_lungs."""

    images: list[str] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    lung_slices: list[str] = field(default_factory=list)

    def all(self) -> list[str]:
        """Return everything by the names that the check for leaks knows."""
        return [*self.images, *self.cases, *(f"ct_lungs/{name}" for name in self.lung_slices)]

    def table(self) -> dict[str, list[str]]:
        """Return it as JSON has it, without what is empty."""
        return {key: sorted(value) for key, value in vars(self).items() if value}
