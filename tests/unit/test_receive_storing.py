"""What is left to do for an image after its answer: at once for a small one, by another thread for a large one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from service.metrics import Metrics
from service.receive.ledger import Ledger
from service.receive.quota import Quota
from service.receive.spool import Spool
from service.receive.storing import Announced, Storing
from service.receive.tally import Tally
from service.store.database import Database
from service.store.intake import Intake
from service.store.tables import Instance
from tests import builders
from tests.peers import Raw, wait_until


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool")
    made.make_ready(8_388_608)
    ready = made._ready
    assert ready is not None
    wait_until(lambda: all(ready._free.values()))
    yield made
    made.close()


@pytest.mark.parametrize(("size", "at_once"), [(32, True), (256, False)])
def test_a_small_image_has_its_place_before_the_next_comes(
        database: Database, spool: Spool, size: int, at_once: bool) -> None:
    intake = Intake(database, lambda: 1000.0)
    storing = Storing(1 << 30, spool, intake, lambda uid: False,
                      Quota(100, 1 << 30, intake.sizes_of, intake.study_too_large))
    raw = Raw.of(builders.ct_series(slices=1, size=size)[0])
    announced = Announced(raw.sop_class_uid, raw.sop_instance_uid, raw.sop_class_uid, raw.transfer_syntax_uid, "MOD")
    part = storing.begin(announced)
    part.write(raw.data)
    storing.write_later(storing.keep(announced, part, Tally("association", Ledger(), Metrics())))
    assert list(spool.files()) == ([part.path] if at_once else [])
    storing.backlog.write()
    assert list(spool.files()) == [part.path]
    with database.reading() as session:
        assert [row.path for row in session.exec(select(Instance))] == [part.path]
