"""How often what was measured fell into each bin of its bundle's reference: a row for each day, scanner and site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete
from sqlmodel import Session, col, select

from service.store.tables import DriftCount

DAY_S = 86400.0
OTHER = "other"
_MOST_SOURCES = 100  # scanners and sites of one bundle that are told apart
_LONGEST = 40


@dataclass(frozen=True)
class Source:
    """Where images come from: maker and model of the device, and the institution or, where it is not named, the sender."""

    scanner: str
    site: str


def named(*texts: str) -> str:
    """Return what a header names, fit for a label: printable, short, "unknown" where it names nothing."""
    text = " ".join("".join(c if c.isprintable() and c.isascii() else " " for c in " ".join(texts)).split())
    return text[:_LONGEST].strip() or "unknown"


def note(session: Session, bundle: str, digest: str, source: Source, now: float,
         counts: Mapping[str, Sequence[int]], images: int) -> None:
    """Add counts by measure to those of today; a source beyond the hundredth of a bundle counts as "other"."""
    day = int(now // DAY_S)
    source = _bounded(session, bundle, digest, source)
    row = session.exec(select(DriftCount).where(
        DriftCount.bundle == bundle, DriftCount.digest == digest, DriftCount.scanner == source.scanner,
        DriftCount.site == source.site, DriftCount.day == day).with_for_update()).first()
    if row is None:
        row = DriftCount(bundle=bundle, digest=digest, scanner=source.scanner, site=source.site, day=day)
    row.images += images
    row.counts = _added(row.counts, counts)
    session.add(row)


def counted(session: Session, since: float) -> dict[tuple[str, str, Source], tuple[int, dict[str, list[int]]]]:
    """Return images and counts by measure since a time (Unix, seconds, whole days), by bundle, digest and source."""
    found: dict[tuple[str, str, Source], tuple[int, dict[str, list[int]]]] = {}
    for row in session.exec(select(DriftCount).where(col(DriftCount.day) >= int(since // DAY_S))).all():
        key = row.bundle, row.digest, Source(row.scanner, row.site)
        images, counts = found.get(key, (0, {}))
        found[key] = images + row.images, _added(counts, row.counts)
    return found


def forget(session: Session, before: float) -> None:
    """Delete the counts of days that ended before a time."""
    session.execute(delete(DriftCount).where(col(DriftCount.day) < int(before // DAY_S)))


def _bounded(session: Session, bundle: str, digest: str, source: Source) -> Source:
    known = set(session.exec(select(DriftCount.scanner, DriftCount.site).where(
        DriftCount.bundle == bundle, DriftCount.digest == digest).distinct()).all())
    if (source.scanner, source.site) in known or len(known) < _MOST_SOURCES:
        return source
    return Source(OTHER, OTHER)


def _added(one: Mapping[str, Sequence[int]], other: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Add counts by measure; where the number of bins differs (another reference) the newer ones stay."""
    sums = {name: list(counts) for name, counts in one.items()}
    for name, counts in other.items():
        old = sums.get(name, [])
        sums[name] = [a + b for a, b in zip(old, counts, strict=True)] if len(old) == len(counts) else list(counts)
    return sums
