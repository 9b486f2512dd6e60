"""Where sessions go: which GPU, and which others have to be dropped where memory is bounded."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TypeVar

from service.domain.manifest import Manifest
from service.domain.variant import Variant
from service.infer.session import Loaded, failed, need_bytes

Key = TypeVar("Key", bound=Hashable)


def gpu_for(manifest: Manifest, gpus: Sequence[int], loaded: Collection[Loaded]) -> int:
    """Return the GPU for a bundle: of those that its manifest names, else of all that may be used, the least taken.

    gpus: numbers of those that may be used; loaded: the sessions that there are.
    Raises: EngineUnavailable when the manifest names only others.
    """
    named = manifest.placement.devices
    usable = [gpu for gpu in gpus if not named or gpu in named]
    if not usable:
        raise failed(f"bundle {manifest.name} is to run on GPU {', '.join(map(str, named))}; those in use are "
                     f"{', '.join(map(str, gpus)) or 'none'} (infer.gpus)")
    return min(usable, key=lambda gpu: (taken_bytes(loaded, gpu), gpu))


def taken_bytes(loaded: Collection[Loaded], gpu: int | None) -> int:
    """Return the memory that the sessions on a device take, None: on the CPU; bytes."""
    return sum(one.need_bytes for one in loaded if one.place.gpu == gpu)


def to_drop(manifest: Manifest, variant: Variant, gpu: int | None, loaded: Mapping[Key, Loaded], most_bytes: int,
            ) -> list[Key]:
    """Return the sessions to drop so that one more fits its device: those not used for longest, and none that runs.

    gpu: of the new session, None: the CPU; most_bytes: of all sessions on a device, 0: no limit.
    Raises: EngineUnavailable when it does not fit even so.
    """
    if not most_bytes:
        return []
    need, there = need_bytes(manifest, variant), {key: one for key, one in loaded.items() if one.place.gpu == gpu}
    over = taken_bytes(there.values(), gpu) + need - most_bytes
    dropped = []
    for key, one in sorted(there.items(), key=lambda item: item[1].used_at):
        if over <= 0:
            break
        if not one.in_use:
            dropped.append(key)
            over -= one.need_bytes
    if over > 0:
        raise failed(f"bundle {manifest.name} takes {need} bytes, and {most_bytes} are all that sessions may take there "
                     "(infer.memory_bytes)")
    return dropped
