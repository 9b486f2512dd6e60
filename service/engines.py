"""From the settings to the engine that runs the networks: on this machine, or on a Ray cluster."""

from __future__ import annotations

from service.infer.catalogue import Catalogue
from service.infer.engine import Engine, Limits, Standing
from service.infer.networks import Networks
from service.infer.watched import WatchedEngine
from service.metrics import Metrics
from service.settings import Settings
from service.triage.turns import Turns


def engine_of(settings: Settings, catalogue: Catalogue, metrics: Metrics, turns: Turns | None = None) -> WatchedEngine:
    """Return the engine as these settings want it, with every bundle in use warm. turns: of the looks that share it.

    Raises: UnusableStudy(NO_MODEL), EngineUnavailable.
    """
    infer, turns = settings.infer, turns or Turns(0.0)
    engine: Networks
    if infer.engine == "ray":
        from service.infer.ray_engine import Cluster, RayEngine  # Ray is an extra

        cluster = Cluster(infer.ray_address, infer.ray_sessions, infer.ray_timeout_s)
        engine = RayEngine(catalogue, cluster, infer.device, metrics, infer.precision, turns.give_way, turns.rank_here)
    else:
        engine = Engine(catalogue, infer.device, infer.threads, metrics, infer.precision, turns.give_way,
                        limits_of(settings), lambda: Standing(*turns.standing()))
    for name in infer.bundles:
        engine.warm(name)
    return WatchedEngine(engine, catalogue)


def limits_of(settings: Settings) -> Limits:
    """Return what bounds the sessions, as these settings want it."""
    infer = settings.infer
    return Limits(infer.run_timeout_s, infer.memory_bytes, infer.gpus, tensorrt=infer.tensorrt,
                  cache=str(settings.store.data_dir.resolve() / "tensorrt"))
