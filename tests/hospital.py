"""A small hospital for flow tests: a PACS that can misbehave, the whole service, and modalities that send to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import FileDataset
from sqlmodel import col, select

from service.app import App
from service.deliver.cstore import CStoreTarget
from service.domain.job import DeliveryState, StudyState
from service.settings import Settings
from service.store.tables import Event, Job, ResultObject, Study
from tests.builders import write
from tests.peers import HOST, Orthanc, ScriptedPacs, wait_until
from tests.tiny_bundles import band_gate, brightness_cxr, dark_lungs, density_ct, spot_cxr, threshold_ct

TINY: dict[str, Any] = {"ct_bundles": ["tiny-ct"], "cxr_bundles": ["tiny-cxr"], "cxr_gate": "", "cxr_lungs": ""}
SEVERAL: dict[str, Any] = {
    "ct_bundles": ["tiny-ct", "tiny-pattern"], "cxr_bundles": ["tiny-cxr", "tiny-findings"], "cxr_gate": "tiny-gate",
    "cxr_lungs": "tiny-lungs"}
ENDED = (StudyState.ASSESSED, StudyState.NOT_ASSESSED, StudyState.FAILED)


@dataclass
class Hospital:
    """The running parts. Tables are read straight from the database."""

    app: App
    pacs: ScriptedPacs
    folder: Path

    def send(self, *datasets: FileDataset, calling: str = "CT1") -> None:
        """Send images in one association, as a modality would."""
        files = write(datasets, self.folder / f"sent-{len(list(self.folder.iterdir()))}")
        self.send_files(files, calling)

    def send_files(self, files: Sequence[Path], calling: str = "CT1") -> None:
        """Send files in one association."""
        assert self.app.listener is not None
        CStoreTarget("service", "FIRSTLOOK", HOST, self.app.listener.port, calling).send(files)

    def study(self, uid: str) -> Study:
        """Return the row of a study."""
        with self.app.database.reading() as session:
            return session.exec(select(Study).where(Study.study_instance_uid == uid)).one()

    def ended(self, uid: str, revision: int = 1) -> Study:
        """Wait until a revision of a study has its result or refusal, and return its row."""

        def done() -> Study | None:
            study = self.study(uid)
            return study if study.revision >= revision and study.state in ENDED else None

        found: Study = wait_until(done, 60)
        return found

    def delivered(self, uid: str, revision: int = 1) -> Study:
        """Wait until a revision of a study is in the PACS, and return its row."""

        def done() -> Study | None:
            study = self.ended(uid, revision)
            return study if study.delivery == DeliveryState.DELIVERED else None

        found: Study = wait_until(done, 60)
        return found

    def rows(self, table: type[Any], uid: str) -> list[Any]:
        """Return the rows of a table (Event, Job, ResultObject) that belong to a study, in the order made."""
        number = self.study(uid).id
        with self.app.database.reading() as session:
            return list(session.exec(select(table).where(table.study_id == number).order_by(col(table.id))).all())

    def trace(self, uid: str) -> list[str]:
        """Return the trace of a study, each line as stage: text."""
        return [f"{e.stage}: {e.text}" for e in self.rows(Event, uid)]

    def jobs(self, uid: str) -> list[Job]:
        """Return the jobs of a study."""
        return self.rows(Job, uid)

    def objects(self, uid: str) -> list[ResultObject]:
        """Return what was made for a study."""
        return self.rows(ResultObject, uid)

    def in_pacs(self, uid: str) -> list[FileDataset]:
        """Return what the PACS holds of a study, as data sets, in the order it arrived."""
        return [dcmread(r.path) for r in self.pacs.received() if r.study_instance_uid == uid]


def tiny_models(folder: Path) -> Path:
    """Make a folder with two bundles that are plain rules, so that results can be foretold."""
    threshold_ct(folder, "tiny-ct", side_px=128, window_hu=[-1100, 1000])
    brightness_cxr(folder, "tiny-cxr")
    return folder


def more_models(folder: Path, **limits: float) -> Path:
    """Add the bundles of SEVERAL to those of `tiny_models`; limits: most_unfamiliarity by bundle ("tiny_pattern")."""
    for name, make in (("tiny-pattern", density_ct), ("tiny-findings", spot_cxr), ("tiny-lungs", dark_lungs)):
        make(folder, name, most_unfamiliarity=limits.get(name.replace("-", "_"), 0.0))
    band_gate(folder)
    return tiny_models(folder)


def limit(models: Path, bundle: str, **accepts: float) -> None:
    """Write what a tiny bundle accepts into its manifest."""
    file = models / bundle / "manifest.toml"
    lines = "\n".join(f"{key} = {value}" for key, value in accepts.items())
    file.write_text(f"{file.read_text()}\n[accepts]\n{lines}\n")


@contextmanager
def hospital(folder: Path, pacs: ScriptedPacs | None = None, change: Callable[[App], None] | None = None,
             **sections: dict[str, Any]) -> Iterator[Hospital]:
    """Run the service against a PACS; `sections` are settings that go over the test's own (short waits, free ports).

    change: may exchange a part of the service before it starts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with pacs or ScriptedPacs(folder / "pacs") as peer:
        app = App(settings_for(folder, peer, **sections))
        if change is not None:
            change(app)
        try:
            app.start()
            yield Hospital(app, peer, folder)
        finally:
            app.stop()


def settings_for(folder: Path, pacs: ScriptedPacs | Orthanc, **sections: dict[str, Any]) -> Settings:
    """Return the settings of a test's service."""
    tree: dict[str, dict[str, Any]] = {
        "store": {"data_dir": folder / "data"},
        "receive": {"port": 0, "any_calling_ae": True, "min_free_bytes": 0, "ready_mib": 8},
        "assemble": {"quiet_cxr_s": 0.2, "quiet_ct_s": 0.2},
        "infer": {"device": "cpu"},
        "work": {"first_wait_s": 0.1, "wait_factor": 1.0, "tries": 3},
        "web": {"port": 0},
        "deliver": {"targets": [
            {"name": "pacs", "ae_title": pacs.ae_title, "host": HOST, "port": pacs.port, "timeout_s": 5}]},
    }
    for section, changes in sections.items():
        tree[section] = tree.get(section, {}) | changes
    return Settings.model_validate(tree)
