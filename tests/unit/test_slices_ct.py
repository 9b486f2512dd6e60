"""A volume that fills as its slices are read: decoded into place, or apart where others keep them; the first ones first."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from service.assemble.choose import choose
from service.assemble.geometry import GeometryRules
from service.domain.room import Room
from service.domain.study import Selection
from service.domain.urgency import Urgency
from service.errors import UnusableStudy
from service.infer.catalogue import Catalogue
from service.infer.engine import Engine
from service.infer.presentation import Presentation
from service.infer.watched import WatchedEngine
from service.metrics import Metrics
from service.pipeline import look_ct
from service.pipeline.frames import read_sources
from service.pipeline.shelf import MOST_SOURCE_BYTES, SliceRead
from service.pipeline.slices_ct import SliceFile, SliceReader, Stack, filled
from service.prepare.codestream import decode_frame
from service.prepare.hounsfield import load_volume
from service.receive.header import read_file_header
from service.triage.turns import Pace, Turns
from tests import builders
from tests.tiny_bundles import threshold_ct
from tests.unit.test_turns import look_elsewhere

SLICES = 30
EARLY = slice(0, None, 3)


class Series:
    """A series on the disk and a reader of it."""

    def __init__(self, folder: Path) -> None:
        manifest = threshold_ct(folder / "models", side_px=64)
        paths = builders.write(builders.ct_series(slices=SLICES, size=64), folder / "images")
        by_uid = {header.sop_instance_uid: (path, header) for path in paths for header in (read_file_header(path),)}
        self.selection: Selection = choose([h for _, h in by_uid.values()], GeometryRules(10, 5.0), lambda one, other: False)
        self.files = [SliceFile(h, by_uid[h.sop_instance_uid][0], "a") for h in self.selection.headers]
        catalogue = Catalogue.load(folder / "models")
        self.engine = WatchedEngine(Engine(catalogue, "cpu", 2), catalogue)
        self.turns = Turns(60.0)
        line: Any = SimpleNamespace(engine=self.engine, room=Room(), metrics=Metrics(), decoder=decode_frame,
                                    most_decoded_bytes=2**30, first_look_mm=0.0, turns=self.turns)
        assert self.selection.geometry is not None
        self.geometry = self.selection.geometry
        self.reader = SliceReader.of(line, manifest, Presentation.of(self.geometry), (64, 64))


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return Series(tmp_path)


def test_what_is_decoded_into_place_is_what_is_decoded_apart(series: Series) -> None:
    alone = load_volume([f.path for f in series.files], series.selection.headers, series.geometry).hu
    kept: dict[str, SliceRead] = {}
    in_place = filled(series.reader, series.files, series.geometry, {})
    apart = filled(series.reader, series.files, series.geometry, {}, kept=kept.__setitem__)
    again = filled(series.reader, series.files, series.geometry, kept)
    for stack in (in_place, apart, again):
        assert np.array_equal(stack.hu, alone) and np.array_equal(stack.classes, in_place.classes)


def test_the_data_sets_of_slices_are_read_once_and_are_what_a_file_says_before_its_pixels(series: Series) -> None:
    wanted = [dcmread(f.path, stop_before_pixels=True) for f in series.files]
    kept: dict[str, SliceRead] = {}
    read_now = filled(series.reader, series.files, series.geometry, {})
    filled(series.reader, series.files, series.geometry, {}, kept=kept.__setitem__)
    read_before = filled(series.reader, series.files, series.geometry, kept)
    paths, headers = [f.path for f in series.files], series.selection.headers
    one = headers[3].sop_instance_uid
    but_one = {uid: source for uid, source in read_now.sources.items() if uid != one}
    assert read_sources(paths, headers, but_one)[3] == wanted[3], "what is not at hand is read"
    for path in paths:
        path.unlink()
    for stack in (read_now, read_before):
        assert read_sources(paths, headers, stack.sources) == wanted
    assert all(one.size_bytes > one.hu.nbytes + one.classes.nbytes for one in kept.values())


def test_a_data_set_with_much_beside_its_pixels_is_not_kept_but_read_again(series: Series) -> None:
    dataset = dcmread(series.files[1].path)
    dataset.add_new(0x00091010, "OB", bytes(MOST_SOURCE_BYTES + 2))
    dataset.save_as(series.files[1].path)
    stack = filled(series.reader, series.files, series.geometry, {})
    assert len(stack.sources) == SLICES - 1
    found = read_sources([f.path for f in series.files], series.selection.headers, stack.sources)
    assert found[1][0x00091010].value == bytes(MOST_SOURCE_BYTES + 2)


def test_what_others_keep_is_no_part_of_the_volume(series: Series) -> None:
    kept: dict[str, SliceRead] = {}
    stack = filled(series.reader, series.files, series.geometry, {}, kept=kept.__setitem__)
    assert len(kept) == SLICES
    assert not any(np.may_share_memory(one.hu, stack.hu) for one in kept.values())


def test_a_second_volume_lies_where_the_first_did_and_says_the_same(series: Series) -> None:
    first = filled(series.reader, series.files, series.geometry, {})
    hu, classes = first.hu.copy(), first.classes.copy()
    del first
    second = filled(series.reader, series.files, series.geometry, {})
    assert np.array_equal(second.hu, hu) and np.array_equal(second.classes, classes)


def test_the_first_slices_are_seen_while_the_others_wait(series: Series) -> None:
    early = {f.header.sop_instance_uid for f in series.files[EARLY]}
    seen, there = threading.Event(), list[np.ndarray]()

    def look(stack: Stack) -> None:
        there.append(stack.part(EARLY, 3 * series.geometry.spacing_mm[0])[0].hu.copy())
        seen.set()

    def kept(uid: str, one: SliceRead) -> None:
        assert uid in early or seen.wait(30)  # the others go on only once the first look was had

    stack = filled(series.reader, series.files, series.geometry, {}, EARLY, look, kept)
    assert len(there) == 1 and np.array_equal(there[0], stack.hu[EARLY])


def test_first_slices_that_are_known_are_seen_without_any_reading(series: Series) -> None:
    kept: dict[str, SliceRead] = {}
    filled(series.reader, series.files, series.geometry, {}, kept=kept.__setitem__)
    known = {f.header.sop_instance_uid: kept[f.header.sop_instance_uid] for f in series.files[EARLY]}
    seen, again = threading.Event(), dict[str, SliceRead]()

    def keep(uid: str, one: SliceRead) -> None:
        assert seen.wait(30)
        again[uid] = one

    filled(series.reader, series.files, series.geometry, known, EARLY, lambda stack: seen.set(), keep)
    assert seen.is_set() and set(again) == set(kept) - set(known)


def test_what_a_first_look_raises_is_raised(series: Series) -> None:
    def look(stack: Stack) -> None:
        raise KeyError("look")

    with pytest.raises(KeyError, match="look"):
        filled(series.reader, series.files, series.geometry, {}, EARLY, look)


def test_a_slice_that_cannot_be_read_ends_it_without_a_first_look(series: Series) -> None:
    series.files[0].path.write_bytes(b"no DICOM")
    seen: list[Stack] = []
    with pytest.raises(UnusableStudy):
        filled(series.reader, series.files, series.geometry, {}, EARLY, seen.append)
    assert not seen


def test_a_look_ahead_that_has_read_all_is_not_thrown_away_for_a_more_urgent_one(
        series: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    assess, begun = look_ct.assess_read, list[int]()

    def passed(*given: Any) -> Any:
        with look_elsewhere(series.turns, Urgency.STAT):
            begun.append(1)
            return assess(*given)

    monkeypatch.setattr(look_ct, "assess_read", passed)
    with series.turns.taken(Urgency.ROUTINE, ahead=True):
        said = look_ct.look_at_ct(series.reader.line, series.selection, series.files, [series.reader.manifest])
    assert begun == [1] and said.masks is not None


@pytest.mark.parametrize("segmented", [True, False])
def test_a_ct_without_a_first_look_has_nothing_to_go_before_others_for(
        segmented: bool, series: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    paces: list[Pace] = []

    def asked(*_given: Any) -> None:
        paces.append(turn.pace)

    monkeypatch.setattr(look_ct, "_asked", asked)
    with series.turns.taken(Urgency.ROUTINE, pace=Pace.FIRST) as turn:
        assert turn.pace is Pace.FIRST
        look_ct.look_at_ct(series.reader.line, series.selection, series.files, [series.reader.manifest] if segmented else [])
    assert paces == [Pace.WHOLE]


@pytest.mark.parametrize("segmented", [True, False])
def test_what_is_done_beside_begins_when_the_last_slice_is_read(
        segmented: bool, series: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sources: list[int] = []
    kept = Stack.add

    def add(stack: Stack, uid: str, one: SliceRead) -> None:
        order.append("slice")
        kept(stack, uid, one)

    def read(known: Mapping[str, Dataset]) -> None:
        order.append("read")
        sources.append(len(known))

    monkeypatch.setattr(Stack, "add", add)
    monkeypatch.setattr(look_ct, "_asked", lambda *_: order.append("asked"))
    manifests = [series.reader.manifest] if segmented else []
    look_ct.look_at_ct(series.reader.line, series.selection, series.files, manifests, read=read)
    slices = SLICES if segmented else 0
    assert order == ["slice"] * slices + ["read", "asked"] and sources == [slices]
