"""What a look asks of an engine: the networks of the bundles, wherever they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from service.domain.finding import BundleIdentity

Feed = Mapping[str, NDArray[Any]]
"""Tensors by the name of the network's input."""

Run = Callable[[Feed], dict[str, NDArray[Any]]]
"""A network: tensors by input name to tensors by output name."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(callers: int, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Do some work for each item in so many threads, in the context of the caller; returns the results in order.

    Raises: what `work` raises; the items that were not begun are left.
    """
    with ThreadPoolExecutor(callers, "infer") as pool:
        waiting = [pool.submit(copy_context().run, work, item) for item in items]
        try:
            return [done.result() for done in waiting]
        finally:
            pool.shutdown(cancel_futures=True)


class Networks(Protocol):
    """The networks of the bundles. Safe to call from several threads.

    Every method raises UnusableStudy(NO_MODEL) for a bundle that is not installed, and EngineUnavailable when its network
    cannot be loaded or run.
    """

    def warm(self, bundle_name: str) -> None:
        """Load a bundle's network and run it once, so that the first study does not wait."""

    def run(self, bundle_name: str, feed: Feed) -> dict[str, NDArray[Any]]:
        """Run a bundle's network once."""

    def spread(self, bundle_name: str, work: Callable[[Run, Item], Result], items: Iterable[Item]) -> list[Result]:
        """Do some work with a network for each of many items, several at once; returns the results in order.

        work: is given a function that runs the network, and an item; what it does before and after goes on beside the
        network of others.  Raises: what `work` raises, too; the items that were not begun are left.
        """

    def batch(self, bundle_name: str) -> int:
        """Return how many images at once pay in `spread`."""

    def identity(self, bundle_name: str) -> BundleIdentity:
        """Return who speaks when this bundle speaks here: the digest is that of the ONNX file in use."""

    def providers(self) -> dict[str, str]:
        """Return the execution provider in use by each loaded bundle."""

    def close(self) -> None:
        """Let go of the sessions; nothing runs any more."""
