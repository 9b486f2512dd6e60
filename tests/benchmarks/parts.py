"""The parts of a CT's way run alone, each for itself: decoding, the network, the encoding of the SEG."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from service.assemble.choose import choose
from service.assemble.geometry import GeometryRules
from service.domain.urgency import Urgency
from service.infer.catalogue import Catalogue
from service.infer.ct import assess_ct
from service.infer.engine import Engine
from service.infer.reading import CtTransform
from service.pipeline.frames import read_sources
from service.prepare import ct
from service.prepare.hounsfield import load_volume
from service.receive.header import read_file_header
from service.report.document import Context, Style
from service.report.identity import equipment_of
from service.report.segmentation import drawn, segmentation
from tests.benchmarks.department import Template
from tests.benchmarks.models import Cost

MODELS = Path(__file__).parents[2] / "models"
BUNDLE = "ct-lung-infection"


class Parts:
    """One CT, on the disk and ready for each of its parts. precision: of the network's file, as `infer.precision`."""

    def __init__(self, template: Template, folder: Path, threads: int = 0, precision: str = "auto") -> None:
        _, paths = template.write(0, Urgency.ROUTINE, folder)
        by_uid = {header.sop_instance_uid: (path, header) for path in paths for header in (read_file_header(path),)}
        self._selection = choose([header for _, header in by_uid.values()], GeometryRules(10, 5.0), lambda one, other: False)
        self._paths = [by_uid[header.sop_instance_uid][0] for header in self._selection.headers]
        catalogue = Catalogue.load(MODELS)
        self._manifest = catalogue.get(BUNDLE)
        self._engine = Engine(catalogue, "cpu", threads or os.cpu_count() or 1, precision=precision)
        self._engine.warm(BUNDLE)
        volume = self._decoded()
        to_tensor = partial(ct.slice_tensor, parameters=self._manifest.parameters, steps=self._manifest.steps)
        self._tensor = to_tensor(volume.hu)
        self._said = assess_ct(volume, self._engine, self._manifest, CtTransform(to_tensor, ct.restore))
        self._sources = read_sources(self._paths, self._selection.headers)

    def costs(self) -> tuple[Cost, Cost, Cost]:
        """Return what decoding, the network and the SEG cost, each run alone."""
        return Cost.of(self._decoded), Cost.of(self._network), Cost.of(self._seg)

    def _decoded(self) -> object:
        assert self._selection.geometry is not None
        return load_volume(self._paths, self._selection.headers, self._selection.geometry)

    def _network(self) -> object:
        batch = self._engine.batch(BUNDLE)
        return self._engine.spread(BUNDLE, lambda run, k: run({"slices": self._tensor[k:k + batch]}),
                                   range(0, len(self._tensor), batch))

    def _seg(self) -> object:
        found, geometry = drawn(self._said), self._selection.geometry
        if found is None or geometry is None:
            raise SystemExit("nothing is drawn on this CT")
        equipment = (equipment_of(self._said.bundle, "0"),)
        context = Context(source=self._sources[0], style=Style(), equipment=equipment[0], contributors=equipment,
                          key=("parts",), now=datetime.now(UTC), modality="CT", urgent=False, revision=1, comparison=None)
        made = segmentation(context, self._sources, geometry, found)
        return made.dataset.save_as(io.BytesIO(), enforce_file_format=True)
