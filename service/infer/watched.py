"""An engine that also measures what its networks are given and answer, for the look that asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.drift import measures
from service.domain.finding import BundleIdentity
from service.domain.manifest import Manifest
from service.infer.catalogue import Catalogue
from service.infer.networks import Feed, Item, Networks, Result, Run

_MOST_AHEAD = 64  # studies


class Seen:
    """What was measured, by bundle and measure. Safe to share between threads."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
        self._lock = threading.Lock()

    def add(self, bundle_name: str, measured: Mapping[str, NDArray[np.float64]]) -> None:
        """Add the measures of a few images."""
        with self._lock:
            of_bundle = self._values.setdefault(bundle_name, {})
            for name, values in measured.items():
                of_bundle.setdefault(name, []).append(values)

    def values(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Return all that was measured, (n,) for each measure; bundles of which nothing counts are left out."""
        with self._lock:
            found = {b: {name: np.concatenate(parts) for name, parts in of.items()} for b, of in self._values.items()}
        return {b: of for b, of in found.items() if all(len(v) for v in of.values())}


class WatchedEngine:
    """An engine, and what the look in whose context it is called gives it to see (`watching`)."""

    def __init__(self, engine: Networks, catalogue: Catalogue) -> None:
        self._engine, self._catalogue = engine, catalogue
        self._seen: ContextVar[Seen | None] = ContextVar("seen", default=None)
        self._ahead: dict[int, Seen] = {}
        self._lock = threading.Lock()

    @contextmanager
    def watching(self, study_id: int, ahead: bool = False) -> Iterator[Seen]:
        """Measure what is run within, in this context and its copies; with what was seen of the study ahead of its look.

        ahead: this is ahead of it, and waits for it.
        """
        with self._lock:
            seen = self._ahead.pop(study_id, None) or Seen()
            if ahead:
                self._ahead[study_id] = seen
                for forgotten in list(self._ahead)[:-_MOST_AHEAD]:
                    del self._ahead[forgotten]
        token = self._seen.set(seen)
        try:
            yield seen
        finally:
            self._seen.reset(token)

    def warm(self, bundle_name: str) -> None:
        """As the engine does."""
        self._engine.warm(bundle_name)

    def run(self, bundle_name: str, feed: Feed) -> dict[str, NDArray[Any]]:
        """Run a network, and measure."""
        out = self._engine.run(bundle_name, feed)
        self._measure(bundle_name, feed, out)
        return out

    def spread(self, bundle_name: str, work: Callable[[Run, Item], Result], items: Iterable[Item]) -> list[Result]:
        """Do some work for each item, and measure what it runs."""

        def watched(run: Run, item: Item) -> Result:
            return work(partial(self._through, bundle_name, run), item)

        return self._engine.spread(bundle_name, watched, items)

    def batch(self, bundle_name: str) -> int:
        """As the engine does."""
        return self._engine.batch(bundle_name)

    def identity(self, bundle_name: str) -> BundleIdentity:
        """As the engine does."""
        return self._engine.identity(bundle_name)

    def providers(self) -> dict[str, str]:
        """As the engine does."""
        return self._engine.providers()

    def close(self) -> None:
        """As the engine does."""
        self._engine.close()

    def _through(self, bundle_name: str, run: Run, feed: Feed) -> dict[str, NDArray[Any]]:
        out = run(feed)
        self._measure(bundle_name, feed, out)
        return out

    def _measure(self, bundle_name: str, feed: Feed, out: Mapping[str, NDArray[Any]]) -> None:
        seen = self._seen.get()
        if seen is not None and (found := measured(self._catalogue.get(bundle_name), feed, out)) is not None:
            seen.add(bundle_name, found)


def measured(manifest: Manifest, feed: Feed, out: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]] | None:
    """Measure one run of a bundle; None when what it gave does not fit its manifest, which others will say."""
    names = [o.name for o in sorted(manifest.outputs, key=lambda o: o.index)]
    given, scores = next(iter(feed.values())), out.get("probabilities")
    if given.ndim != 4 or scores is None or scores.ndim not in (2, 4) or scores.shape[:2] != (len(given), len(names)):
        return None
    return measures(given, out, names)
