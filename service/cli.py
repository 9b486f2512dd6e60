"""The command line: firstlook serve, listen, work, web, demo, send, check, triage, models, simulate, settings and others."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import cv2
from sqlalchemy.exc import SQLAlchemyError

from service import DISCLAIMER, __version__, logs
from service.app import ROLES, App
from service.audit_cli import add_audit
from service.care_cli import add_care
from service.certs_cli import add_certs
from service.checks import (
    check_archives,
    check_bundles,
    check_certificates,
    check_disk,
    check_managers,
    check_migrated,
    check_ports,
    check_reports,
    check_target,
    trouble,
)
from service.conformance.statement import statement
from service.demo.run import demo
from service.demo.send import send
from service.domain.manifest import InvalidManifest
from service.engines import engine_of
from service.errors import FirstlookError
from service.example import example
from service.explain import explain
from service.feedback_cli import add_feedback
from service.infer.catalogue import Catalogue
from service.infer.networks import Networks
from service.metrics import Metrics
from service.metrics_page import metrics_page
from service.models_cli import add_models
from service.outlets import archives, kinds_by_target, managers, outlets
from service.parked_cli import add_parked
from service.pipeline.again import NothingToSend, send_once_more, take_up_again
from service.settings import InvalidSettings, Settings, load
from service.simulate.department_file import InvalidDepartment
from service.simulate_cli import add_simulate
from service.store.database import Database
from service.tls.files import UnusableCertificate
from service.triage.rules_file import InvalidRules
from service.triage_cli import add_triage
from service.triaging import queue_of, rules_of
from service.users_cli import add_users
from service.web.health import Check

_SWITCH_S = 0.0005  # a thread that waits to run Python is let in after this: work on a CT does not hold up a radiograph
_NEW_OBJECTS = 20_000  # the garbage collector looks at the young when there are so many more
_EPILOG = f"""
examples:
  firstlook demo                                   the main job on real studies, on this machine
  firstlook settings > firstlook.toml              every setting with its default, to edit
  firstlook check --settings firstlook.toml        is everything in place?
  firstlook serve --settings firstlook.toml        listen, look, report, show
  firstlook explain STUDY_INSTANCE_UID             what happened to a study, and why
  firstlook triage explain FOLDER                  how urgent would these be, and by which rule?
  firstlook simulate                               who waits how long, under which order of the list
  firstlook send FOLDER --to FIRSTLOOK@127.0.0.1:11112 --from CT1

Settings: --settings FILE, or the variable FIRSTLOOK_SETTINGS; FIRSTLOOK_<SECTION>__<FIELD> goes over the file.
{DISCLAIMER}
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code: 0 well, 1 something is wrong, 2 wrong usage or settings."""
    asked = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = asked.run
    try:
        return run(asked)
    except (InvalidSettings, InvalidManifest, InvalidDepartment, InvalidRules, UnusableCertificate) as error:
        print(f"firstlook: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130
    except (SQLAlchemyError, ImportError) as error:
        print(f"firstlook: store.database_url: {trouble(error)}", file=sys.stderr)  # noqa: T201
        return 1
    except (FirstlookError, OSError) as error:
        print(f"firstlook: {error}", file=sys.stderr)  # noqa: T201
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="firstlook", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_EPILOG,
        description="A DICOM inference service for chest imaging, beside the PACS: urgent studies first.")
    parser.add_argument("--version", action="version", version=f"firstlook {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, role, told in (
        ("serve", ROLES, "run the whole service: listener, models, delivery, worklist page"),
        ("listen", ("listen",), "run only the DICOM listener (several processes share one database)"),
        ("work", ("work",), "run only assembly, models and delivery"),
        ("web", ("web",), "run only the worklist page, the API and the metrics"),
    ):
        command = _with_settings(commands.add_parser(name, help=told, description=told))
        command.set_defaults(run=_serve, roles=role)
    _add_demo(commands.add_parser("demo", help="show the main job on real studies, here and now"))
    _add_send(commands.add_parser("send", help="send a folder of DICOM files to a peer (C-STORE)"))
    check = _with_settings(commands.add_parser("check", help="is everything in place? one line for each part"))
    check.set_defaults(run=_check)
    add_models(commands.add_parser("models", help="the model bundles: list, verify, evaluate, compare, import, train"))
    add_simulate(commands.add_parser("simulate", help="what the order changes: waiting times in a department, simulated"))
    add_triage(commands.add_parser("triage", help="the rules of urgency: print them, try them on images"))
    explained = _with_settings(commands.add_parser("explain", help="what happened to a study, and why"))
    explained.add_argument("study", metavar="STUDY_INSTANCE_UID")
    explained.set_defaults(run=_explain)
    again = _with_settings(commands.add_parser("retry", help="take up again what was parked or failed"))
    again.add_argument("study", nargs="?", default="", metavar="STUDY_INSTANCE_UID", help="only this study; else all")
    again.set_defaults(run=_retry)
    resent = _with_settings(commands.add_parser("resend", help="send the result of a study once more"))
    resent.add_argument("study", metavar="STUDY_INSTANCE_UID")
    resent.add_argument("--target", default="", metavar="NAME", help="only to this target; else to all")
    resent.set_defaults(run=_resend)
    add_parked(commands)
    add_feedback(commands)
    add_certs(commands.add_parser("certs", help="a test authority and certificates, to try TLS out with"))
    add_users(commands.add_parser("users", help="the accounts of the pages: add, list, disable, password, token"))
    add_audit(commands)
    add_care(commands, _run_checks)
    for name, text, told in (
        ("settings", example, "print every setting with its default, as a file to edit"),
        ("metrics", metrics_page, "print the page of the metrics"),
        ("conformance", statement, "print the DICOM conformance statement"),
    ):
        commands.add_parser(name, help=told).set_defaults(run=partial(_show, text))
    return parser


def _with_settings(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    default = os.environ.get("FIRSTLOOK_SETTINGS")
    parser.add_argument("--settings", type=Path, default=Path(default) if default else None, metavar="FILE",
                        help="TOML file; `firstlook settings` prints one with every default")
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = "Start a PACS and the service on this machine, send real studies, and show what becomes of them."
    parser.add_argument("--pacs", choices=("builtin", "orthanc"), default="builtin",
                        help="the PACS that gets the results: one of our own, or an installed Orthanc")
    parser.add_argument("--once", action="store_true", help="end when all is done; exit 1 and say what is missing if not")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), metavar="FOLDER",
                        help="where images, results and logs go; emptied if a demo made it (default: demo-output)")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="give up after this (300)")
    parser.set_defaults(run=lambda a: demo(a.output, a.pacs, a.once, a.timeout))


def _add_send(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="DICOM files, or folders searched for them")
    parser.add_argument("--to", required=True, metavar="AET@HOST:PORT", help="the peer, e.g. FIRSTLOOK@127.0.0.1:11112")
    parser.add_argument("--from", dest="calling", default="FIRSTLOOK_SCU", metavar="AET", help="our AE title")
    parser.set_defaults(run=lambda a: send(a.paths, a.to, a.calling))


def _serve(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    logs.configure(settings.log_level)
    logs.get("cli").info("starting", extra={"version": __version__, "roles": list(asked.roles), "notice": DISCLAIMER})
    ended, hurry = threading.Event(), threading.Event()

    def told(number: int, _frame: object) -> None:
        """End; SIGTERM once ends without haste, a second one or SIGINT at once."""
        if number == signal.SIGINT or ended.is_set():
            hurry.set()
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, told)
    sys.setswitchinterval(_SWITCH_S)
    cv2.setNumThreads(1)  # slices are spread over our own threads: with OpenCV's too they would wait for cores, spinning
    app = App(settings, asked.roles)
    try:
        app.start()
        _leave_alone_what_stays()
        ended.wait()
        app.drain(hurry)
    finally:
        app.stop()
    return 0


def _leave_alone_what_stays() -> None:
    """Spare the garbage collector what lives as long as the service: each of its rounds stands every thread still."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


def _check(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    checks = [Check("settings", True, str(asked.settings or "defaults and environment")), *_run_checks(settings)]
    for check in checks:
        print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<16} {check.detail}")  # noqa: T201
    return 0 if all(c.ok for c in checks) else 1


def _run_checks(settings: Settings) -> list[Check]:
    folder = settings.store.data_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    checks = [check_migrated(settings.database_url), *check_ports(settings)]
    checks.append(check_disk(folder, settings.receive.min_free_bytes))
    try:
        checks.append(Check("rules", True, f"{len(rules_of(settings))} rules of urgency"))
    except InvalidRules as error:
        checks.append(Check("rules", False, str(error)))
    try:
        checks.append(check_bundles(settings, _warm_engine(settings)))
    except (InvalidManifest, FirstlookError) as error:
        checks.append(Check("bundles", False, str(error)))
    if not settings.deliver.all:
        checks.append(Check("targets", False, "no target is set under deliver: results would go nowhere"))
    checks += [*check_reports(settings), *check_archives(settings), *check_managers(settings)]
    checks += check_certificates(settings, datetime.now(UTC))
    try:
        checks += [check_target(outlet.target) for outlet in outlets(settings, lambda _: False).values()]
        checks += [check_target(archive, "archive") for archive in archives(settings).values()]
        checks += [check_target(manager, "manager") for manager in managers(settings).values()]
    except InvalidSettings as error:
        checks.append(Check("targets", False, str(error)))
    if not settings.receive.peers and not settings.receive.any_calling_ae:
        checks.append(Check("peers", False, "nobody may call: set receive.peers, or receive.any_calling_ae = true"))
    return checks


def _warm_engine(settings: Settings) -> Networks:
    return engine_of(settings, Catalogue.load(settings.infer.models_dir), Metrics())


def _explain(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    database = Database(settings.database_url)
    try:
        lines = explain(database, asked.study)
    finally:
        database.close()
    if lines is None:
        print(f"firstlook: no study {asked.study} is here", file=sys.stderr)  # noqa: T201
        return 1
    print("\n".join(lines))  # noqa: T201
    return 0


def _retry(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    database = Database(settings.database_url)
    try:
        taken = take_up_again(database, queue_of(settings, database, time.time), time.time(), asked.study)
    finally:
        database.close()
    print("\n".join(taken) or "nothing is parked or failed")  # noqa: T201
    return 0


def _resend(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    targets = kinds_by_target(settings)
    if asked.target and asked.target not in targets:
        raise InvalidSettings(f"--target {asked.target!r}: accepted: {', '.join(targets) or 'none is set under deliver'}")
    chosen = {name: kinds for name, kinds in targets.items() if asked.target in ("", name)}
    database = Database(settings.database_url)
    try:
        going = send_once_more(database, time.time(), asked.study, chosen)
    except NothingToSend as error:
        print(f"firstlook: {asked.study}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        database.close()
    print(f"{asked.study}: sent again to {', '.join(going)}")  # noqa: T201
    return 0


def _show(text: Callable[[], str], _asked: argparse.Namespace) -> int:
    print(text(), end="")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
