"""A site's own history, replayed: from the tables of the database to the waits of its studies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service import cli
from service.domain.urgency import Urgency
from service.operating import past_of
from service.simulate.arrivals import NO_FLAG, Workload, draw
from service.simulate.department import Ai, Department, Detector, example_department
from service.simulate.effect import Length, drawn, simulate
from service.simulate.groups import FLAGGED, NOT_FLAGGED
from service.simulate.queue import Looked, look
from service.simulate.reading import Policy
from service.simulate.replay import Past, TooLittleHistory, posterior, replayed, require_enough, widened
from service.store.database import Database
from service.store.history import passages
from service.store.tables import Job, Study
from tests.browser import seed

MONDAY = 1_767_571_200.0  # 2026-01-05, midnight, UTC
PNEUMONIA = Detector("cxr-pattern", "pneumonia", 0.9, 0.85, Urgency.URGENT, "")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'data/firstlook.db'}")
    (tmp_path / "data").mkdir()
    made.migrate()
    yield made
    made.close()


def department() -> Department:
    return example_department().with_detectors({"cxr": (PNEUMONIA,)})


def history(load: Workload, looked: Looked) -> Past:
    """Return drawn studies as if the service had seen them."""
    names = tuple(("cxr", "ct")[m] for m in load.modality)
    return Past(load.arrived_s + MONDAY, load.last_image_s + MONDAY, load.queued_s + MONDAY, looked.started_s + MONDAY,
                looked.result_s + MONDAY, names, load.ordered_rank, load.flag_rank, MONDAY)


def test_a_history_replays_to_the_waits_of_the_department_that_made_it() -> None:
    """The same studies with the same reading times: replay and simulation give the same waits, to the second."""
    base = replace(department(), spread=0.0, modalities=tuple(
        replace(m, reading_with_condition_s=m.reading_s) for m in department().modalities))
    load, looked, _ = drawn(base, Length(2, 2, 0))(np.random.default_rng(5))
    source = replayed(history(load, looked), base)
    again, looked_again, counted = source(np.random.default_rng(9))
    assert np.allclose(again.arrived_s, load.arrived_s) and np.array_equal(again.reading_s, load.reading_s)
    assert np.array_equal(looked_again.passed, looked.passed)
    assert np.array_equal(counted, load.arrived_s >= load.arrived_s[0] + 86400)
    effect = simulate(base, Length(3, 2, 0), 1, source, "a history")
    plain = simulate(base, Length(3, 2, 0), 1, lambda random: (load, looked, counted))
    for name in (FLAGGED, NOT_FLAGGED, "ordered routine"):
        for policy in Policy:
            one, other = effect.row(name).waits[policy].mean, plain.row(name).waits[policy].mean
            assert one.value == pytest.approx(other.value) and one.high - one.low == pytest.approx(0, abs=1e-6)


def test_conditions_are_drawn_by_bayes_rule() -> None:
    (cxr, _), names = department().modalities, ("pneumonia", "edema")
    flagged, silent = posterior(cxr, True, names), posterior(cxr, False, names)
    share = 0.9 * 0.08 + 0.15 * (1 - 0.08)  # of all studies that are flagged
    assert flagged[0] == pytest.approx(0.08 * 0.9 / share, rel=0.03) and flagged[0] > 0.08 > silent[0]
    assert flagged.sum() == pytest.approx(1) and silent.sum() == pytest.approx(1)
    load = draw(department(), 26 * 168, np.random.default_rng(2))
    seen = load.flagged & (load.modality == 0)
    assert np.mean(load.condition[seen] == 0) == pytest.approx(posterior(cxr, True, tuple(cxr.prevalence))[0], abs=0.01)


def test_the_arrivals_of_a_history_become_those_of_the_department() -> None:
    base = department()
    load = draw(base, 12 * 168, np.random.default_rng(4))
    past = history(load, look(load, base.targets_s, 1))
    found = widened(base, past)
    for one, expected in zip(found.modalities, base.modalities, strict=True):
        assert np.allclose(one.per_hour(), expected.per_hour(), atol=max(expected.per_hour()) * 0.15)
    assert found.load == pytest.approx(base.load, rel=0.03)
    odd = widened(base, replace(past, modality=("mr",) * load.size))
    assert [m.name for m in odd.modalities] == ["mr"] and odd.modalities[0].detectors == ()


@pytest.mark.parametrize(("hours", "per_day"), [(48, 300.0), (400, 3.0), (1, 1.0)])
def test_too_little_history_says_what_is_there_and_what_is_needed(hours: int, per_day: float) -> None:
    base = replace(department(), modalities=(replace(department().modalities[0], per_weekday=per_day),), ai=Ai())
    load = draw(base, hours, np.random.default_rng(1))
    past = history(load, look(load, base.targets_s, 1))
    with pytest.raises(TooLittleHistory, match=rf"holds {load.size} studies over .* needed are 200 studies over 3 days"):
        require_enough(past)


def put(database: Database, numbers: range, began: float, gap_s: float) -> None:
    """Put assessed studies with their jobs into the database; every third is flagged, every tenth has no result."""
    called = seed.summary(seed.finding("pneumonia", 0.9, urgency="urgent", bundle="cxr-findings"))
    with database.transaction() as session:
        for number in numbers:
            at, failed = began + number * gap_s, number % 10 == 9
            flagged = number % 3 == 0 and not failed
            row = seed.study(
                number + 1, at, 0, "failed" if failed else "assessed", kind="cxr", modality="DX", last_received_at=at + 2,
                reading="urgent" if flagged else "routine", flag="pneumonia 90%" if flagged else "",
                assessed_at=None if failed else at + 4, summary={} if failed else called if flagged else seed.summary())
            session.add(row)
            session.flush()
            session.add(Job(key=f"infer:{number}", kind="infer", study_id=row.id or 0, revision=1, urgency="routine",
                            state="done", queued_at=at + 2.5, started_at=at + 3, deadline_at=at + 3600))


def test_studies_are_read_back_from_the_database(database: Database) -> None:
    put(database, range(20), MONDAY + 3600, 600)
    with database.transaction() as session:
        session.add(seed.study(99, MONDAY, 0, "receiving"))
    with database.reading() as session:
        seen = passages(session, 0.0, 1000, bundles=True)
        newest = passages(session, 0.0, 5)
        late = passages(session, MONDAY + 3600 + 10 * 600, 1000)
    assert len(seen) == 20 and [p.first_received_at for p in seen] == sorted(p.first_received_at for p in seen)
    assert [p.first_received_at for p in newest] == [p.first_received_at for p in seen[-5:]] and len(late) == 10
    assert (seen[0].flagged, seen[0].reading_urgency, seen[0].bundle) == (True, Urgency.URGENT, "cxr-findings")
    assert (seen[1].flagged, seen[1].bundle, seen[1].to_notification_s) == (False, "cxr-pattern", 2.0)
    assert (seen[9].assessed_at, seen[9].to_notification_s, seen[9].bundle) == (None, None, "")
    past = past_of(seen)
    assert past.flag_rank[:2].tolist() == [Urgency.URGENT.rank, NO_FLAG] and np.isnan(past.result_s[9])
    assert set(past.modality) == {"cxr"} and (past.arrived_s[0] - past.monday_s) // 86400 in range(7)


def test_a_job_of_another_revision_is_not_taken_for_this_ones(database: Database) -> None:
    put(database, range(1), MONDAY, 60)
    with database.transaction() as session:
        session.get_one(Study, 1).revision = 2
    with database.reading() as session:
        assert [p.queued_at for p in passages(session, 0.0, 10)] == [None]


def test_the_command_replays_and_publishes(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIRSTLOOK_STORE__DATA_DIR", str(tmp_path / "data"))
    asked = ["simulate", "--history", "--days", "3650", "--replications", "3", "--json"]
    put(database, range(20), MONDAY, 600)
    assert cli.main(asked) == 1
    assert "the history holds 20 studies over 0.1 days; needed are 200 studies over 3 days" in capsys.readouterr().err
    put(database, range(20, 800), MONDAY, 600)
    assert cli.main([*asked, "--publish"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "the 800 studies" in told["history"] and told["studies"] == 3 * (800 - 144)
    published = json.loads((tmp_path / "data/expectation.json").read_text())
    assert published["waits_min"] == told["waits_min"] and "--history --days 3650" in published["command"]
    assert not (tmp_path / "data/expectation.part").exists()


def test_without_a_database_the_command_says_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FIRSTLOOK_STORE__DATA_DIR", str(tmp_path / "none"))
    assert cli.main(["simulate", "--history"]) == 1
    said = capsys.readouterr().err
    assert "store.database_url" in said and said.count("\n") == 1
