"""The composition root: settings in, running parts out. The only place that knows concrete classes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import uvicorn
from fastapi import FastAPI

from service import __version__, logs
from service.administration import administration_of
from service.assemble.geometry import GeometryRules
from service.assemble.traits import Kernel
from service.checks import check_bundles, check_database, check_disk, require_tasks
from service.deliver.target import Outlet
from service.domain.commitment import Answer
from service.domain.order import ReadingOrder
from service.domain.study import Kind
from service.domain.urgency import Urgency
from service.engines import engine_of
from service.fetching import cancel_of, fetched_of, open_studies, prior_rules_of
from service.infer.catalogue import Catalogue
from service.infer.gpu import Gpus
from service.inlets import policy_of, returned_of, tls_of, where
from service.keeping import files_of
from service.loops import Step, copies_of, steps_of
from service.metrics import Metrics
from service.operating import expectation_file
from service.outlets import archives, kinds_by_target, outlets
from service.pipeline.again import send_once_more, take_up_again
from service.pipeline.assembling import Arriving
from service.pipeline.compared import Comparison
from service.pipeline.frames import Frames
from service.pipeline.line import Line
from service.pipeline.shelf import Shelf
from service.pipeline.watch import watch
from service.prepare.decoders import Decoders
from service.receive.listener import Listener
from service.receive.spool import Spool
from service.reception import door_of, tracing_of, trail_of
from service.report.build import Style
from service.settings import Settings
from service.store.commitments import record_answer
from service.store.corrections import Corrections
from service.store.database import Database
from service.store.intake import Intake
from service.store.leftovers import remove_leftovers
from service.store.notices import Notices
from service.store.process import this_process
from service.store.sending import KNOWN_AFTER_S, Sending
from service.tls.renewal import Renewed
from service.triage.turns import Turns
from service.triaging import queue_of, rules_of
from service.web.app import create_app
from service.web.calibration import notes_in
from service.web.health import Check, create_monitor
from service.web.pictures import montage
from service.web.reader import WebStyle
from service.web.view.scene import Viewer
from service.worker import Loop, every

ROLES = ("listen", "work", "web")
_WATCH_S = 5.0  # the gauges are read afresh this often
_log = logs.get("app")


class App:
    """A running service, or one role of it. `start` brings the parts up in order, `stop` takes them down in reverse."""

    def __init__(self, settings: Settings, roles: Iterable[str] = ROLES, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.roles = frozenset(roles)
        self.clock = clock
        self.metrics = Metrics()
        self.metrics.build_info.labels(__version__).set(1)
        self.data_dir = settings.store.data_dir.resolve()
        self.results = files_of(settings, "results")
        self.database = Database(settings.database_url)
        self.images = files_of(settings, "spool")
        self.spool = Spool(self.images.root, settings.receive.min_free_bytes, self.images)
        decode = settings.decode
        self.decoders = Decoders(self.metrics, decode.processes, decode.timeout_s, decode.memory_bytes, decode.frames_each)
        self.tracing = tracing_of(settings, self.roles)
        self.trail = trail_of(settings, self.database, clock, self.metrics.audit_failures.inc)
        self.listener: Listener | None = None
        self.line: Line | None = None
        self._loops: list[Loop] = []
        self._draining = False
        self._web: uvicorn.Server | None = None
        self._web_thread: threading.Thread | None = None

    def start(self) -> None:
        """Start every part of the chosen roles.

        Raises: OSError when a port is taken; InvalidManifest or EngineUnavailable when a bundle cannot be used;
        Unavailable when the database is away.
        """
        self.database.migrate()
        self.trail.started()
        if self.roles & {"work", "web"}:
            self.decoders.warm()
        if "work" in self.roles:
            remove_leftovers(self.results.root)
            self.line = self._line()
        if "listen" in self.roles:
            self.listener = self._listener()
            try:
                self.listener.start()
            except OSError as error:
                raise OSError(f"the listener cannot start on {where(self.settings.receive)}: "
                              f"{error.strerror or error}") from error
            _log.info("listening", extra={"ae_title": self.settings.receive.ae_title, **self.listener.ports})
        if self.line is not None:
            self._start_work(self.line)
        if self.listener is not None and not (self.line is not None and self.database.is_sqlite):
            self._begin("sending", self._sending(self.line).tell)  # others judge these studies
        self._start_watch()
        if "web" in self.roles:
            self._start_web()
        elif self.settings.monitor.port:
            monitor = self.settings.monitor
            only_health = create_monitor(self.metrics, self.ready, self.settings.web.access_token)
            self._serve(only_health, "monitor", monitor.host, monitor.port)

    def drain(self, hurry: threading.Event) -> None:
        """Be not ready any more, and let associations that are open end, as the settings want it. hurry: ends it at once."""
        self._draining = True
        if self.listener is not None:
            self.listener.drain(self.settings.receive.notice_s, self.settings.receive.drain_s, hurry)

    def stop(self) -> None:
        """Stop listening first, let the jobs in hand end, then close the database."""
        if self.listener is not None:
            self.listener.stop()
        for loop in self._loops:
            loop.stop()
        if self.line is not None:
            self.line.engine.close()
        if self._web is not None and self._web_thread is not None:
            self._web.should_exit = True
            self._web_thread.join(10)
        self.decoders.close()
        self.trail.stopped()
        self.tracing.close()
        self.database.close()
        _log.info("stopped")

    @property
    def web_port(self) -> int:
        """The TCP port of the page, or of health and metrics where there is no page."""
        if self._web is None:
            raise RuntimeError("no page is started")
        port: int = self._web.servers[0].sockets[0].getsockname()[1]
        return port

    def ready(self) -> Sequence[Check]:
        """Return what must be well for this process to take work."""
        checks = [check_database(self.database), check_disk(self.data_dir, self.settings.receive.min_free_bytes)]
        if self.line is not None:
            checks.append(check_bundles(self.settings, self.line.engine))
        if self._loops:
            dead = [loop.name for loop in self._loops if not loop.is_alive()]
            checks.append(Check("workers", not dead, f"stopped: {', '.join(dead)}" if dead else f"{len(self._loops)} run"))
        if self._draining:
            checks.append(Check("stopping", False, "it stops; associations that are open may end"))
        return checks

    def _listener(self) -> Listener:
        receive = self.settings.receive
        intake = Intake(self.database, self.clock)
        return Listener(policy_of(receive), self.spool, intake, self.metrics, intake.is_ours, self._record,
                        Notices(self.database, self.clock) if receive.notices else None,
                        tls_of(receive, self._watch), self.trail,
                        returned_of(receive, self.results, Corrections(self.database, self.clock)), self.tracing,
                        cancel_of(self.settings, self.database, self.clock))

    def _watch(self, renewed: Renewed) -> None:
        """Show how long certificates hold in the metrics, and say now what is wrong with them."""
        renewed.warn(datetime.fromtimestamp(self.clock(), UTC))
        for kind in {v.kind for v in renewed.validities()}:
            gauge = self.metrics.certificate_days_left.labels(renewed.files.place, kind)
            gauge.set_function(partial(renewed.days_left, kind, self.clock))

    def _record(self, answer: Answer) -> bool:
        """Write down a report of storage commitment; False when nobody waits for it."""
        return record_answer(self.database, self.clock(), answer)

    def _line(self) -> Line:
        settings = self.settings
        catalogue = Catalogue.load(settings.infer.models_dir)
        turns = Turns(settings.work.longest_hold_s)
        require_tasks(settings, catalogue)
        engine = engine_of(settings, catalogue, self.metrics, turns)
        return Line(
            database=self.database, metrics=self.metrics, clock=self.clock, spool_dir=self.images,
            results_dir=self.results, catalogue=catalogue, engine=engine,
            bundles={Kind.CT: settings.infer.ct_bundles, Kind.CXR: settings.infer.cxr_bundles},
            shadows=settings.infer.shadow_bundles, cxr_gate=settings.infer.cxr_gate, cxr_lungs=settings.infer.cxr_lungs,
            comparison=Comparison(self.images, self.decoders), frames=Frames(self.images), decoder=self.decoders,
            most_decoded_bytes=settings.decode.max_study_bytes,
            queue=queue_of(settings, self.database, self.clock), turns=turns,
            geometry=GeometryRules(settings.assemble.min_ct_slices, settings.assemble.max_slice_gap_mm,
                                   Kernel(settings.assemble.ct_kernel.replace("any", ""))),
            longest_wait_s=settings.assemble.longest_wait_s,
            rules=rules_of(settings), target_s=settings.triage.target_s,
            style=Style(
                institution_name=settings.report.institution_name, series_number=settings.report.series_number,
                series_description_prefix=settings.report.series_description_prefix,
                secondary_capture=settings.report.secondary_capture,
                presentation_state=settings.report.presentation_state, key_objects=settings.report.key_objects,
                software_version=__version__),
            report_refusals=settings.report.report_refusals,
            targets=outlets(settings, self._record, self.clock, self._watch), trail=self.trail, tracing=self.tracing,
            shelf=Shelf(settings.work.ahead_bytes, self.metrics.slices_ahead.labels("dropped").inc),
            first_look_mm=settings.infer.first_look_mm,
            archives=archives(settings, self._watch), priors=prior_rules_of(settings),
            fetched=fetched_of(settings, self.spool, self.database, self.clock, self.metrics))

    def _start_work(self, line: Line) -> None:
        freed = line.queue.release_dead_leases()
        if freed:
            _log.info("jobs of an earlier run are taken up again", extra={"jobs": freed})
        arriving = Arriving(self._sending(line).open_studies, known_after_s=0.0 if self.listener else KNOWN_AFTER_S)
        for name, step in steps_of(self.settings, line, arriving, self._watch).items():
            self._begin(name, step)

    def _sending(self, line: Line | None) -> Sending:
        here = partial(open_studies, self.listener, line.fetched if line is not None else None)
        return Sending(self.database, this_process(), self.clock, here)

    def _start_watch(self) -> None:
        """Keep the gauges fresh in every process, so that a dead worker's queue is still seen; delete old copies."""
        for name, step in copies_of(self.settings, self.images, self.results).items():
            self._begin(name, step)
        gpus = Gpus() if self.line is not None else None
        targets = [t.name for t in self.settings.deliver.targets]
        for urgency in Urgency:
            self.metrics.target_seconds.labels(urgency.value).set(self.settings.triage.target_s(urgency))

        def look() -> None:
            watch(self.database, self.metrics, self.data_dir, self.clock(), targets, gpus.read() if gpus else ())

        self._begin("watch", every(_WATCH_S, look))

    def _begin(self, name: str, step: Step) -> None:
        """Start a loop that shows the metrics when it last came around."""
        loop = Loop(name, step, lambda turned: self.metrics.loop_last_turn_seconds.labels(turned).set(self.clock()))
        self._loops.append(loop)
        loop.start()

    def _start_web(self) -> None:
        web = self.settings.web
        style = WebStyle(access_token=web.access_token, patient_names=web.patient_names, refresh_s=web.refresh_s,
                         version=__version__, limit=web.max_rows, window_s=web.window_h * 3600,
                         order=ReadingOrder(self.settings.triage.longest_reading_wait_s),
                         expectation=expectation_file(self.settings), read_within=web.read_within, viewers=web.viewers)
        app = create_app(self.database, self.metrics, self.clock, style, self.ready, self.results,
                         partial(montage, self.images, self.decoders), self._resend,
                         door_of(self.settings, self.database, self.clock, self.trail), self.trail,
                         administration_of(self.settings, self.database, self._targets, self._retry), self._viewer(),
                         notes_in(self.settings.infer.models_dir),
                         lambda: self._web is not None and self._web.should_exit)
        self._serve(app, "web", web.host, web.port)

    def _viewer(self) -> Viewer:
        assemble = self.settings.assemble
        return Viewer(self.images, self.results, self.decoders,
                      GeometryRules(assemble.min_ct_slices, assemble.max_slice_gap_mm))

    def _targets(self) -> Mapping[str, Outlet]:
        return self.line.targets if self.line is not None else outlets(self.settings, self._record)

    def _retry(self, study_instance_uid: str) -> list[str]:
        queue = queue_of(self.settings, self.database, self.clock)
        return take_up_again(self.database, queue, self.clock(), study_instance_uid)

    def _resend(self, study_instance_uid: str) -> list[str]:
        return send_once_more(self.database, self.clock(), study_instance_uid, kinds_by_target(self.settings))

    def _serve(self, app: FastAPI, section: str, host: str, port: int) -> None:
        """Serve pages in a thread. section: of the settings. Raises: OSError when the port is taken."""
        config = uvicorn.Config(app, host=host, port=port, log_config=None, access_log=False, lifespan="off",
                                forwarded_allow_ips=list(self.settings.web.proxies))
        self._web = uvicorn.Server(config)
        self._web_thread = threading.Thread(target=self._web.run, name=section, daemon=True)
        self._web_thread.start()
        while not self._web.started:
            if not self._web_thread.is_alive():
                raise OSError(f"{section}.host {host}, {section}.port {port}: cannot be listened on")
            self._web_thread.join(0.02)
        _log.info("page", extra={"url": f"http://{host}:{self.web_port}/", "for": section})
