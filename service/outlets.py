"""From the settings to the targets: each place that results go to, what it takes and how it proves that it keeps it."""

from __future__ import annotations

from collections.abc import Callable

from service.deliver.cstore import CStoreTarget
from service.deliver.proving import DicomProver, Report
from service.deliver.target import Outlet
from service.domain.commitment import Answer, Proof
from service.receive.reports import report_handler
from service.settings import Settings, Target

Record = Callable[[Answer], bool]


def outlets(settings: Settings, record: Record) -> dict[str, Outlet]:
    """Return every target of the settings by its name. record: writes down reports of storage commitment."""
    on_report = report_handler(record)
    return {t.name: Outlet(pacs(settings, t), frozenset(t.objects), _prover(settings, t, on_report))
            for t in settings.deliver.targets}


def pacs(settings: Settings, target: Target) -> CStoreTarget:
    """Return the C-STORE target that a table of deliver.targets describes."""
    return CStoreTarget(target.name, target.ae_title, target.host, target.port,
                        target.calling_ae_title or settings.receive.ae_title, target.timeout_s, target.transfer_syntax)


def _prover(settings: Settings, target: Target, on_report: Report) -> DicomProver | None:
    if target.proof is Proof.NONE:
        return None
    return DicomProver(pacs(settings, target), target.proof, target.prove_within_s, target.report_wait_s, on_report)
