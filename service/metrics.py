"""Every metric, label and bucket, in one table. Labels are bounded: never a UID, a name or free text."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics import MetricWrapperBase

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_READING_SECONDS = (60, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 43200, 86400, 172800)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)
_PROBABILITY = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
_PREFIX = "firstlook"

LABELS = {
    "archive": "places under priors.archives, by name",
    "bundle": "installed bundles, by name", "cause": "crashed, timeout, recycled; failed, hung for sessions",
    "file": "certificate, authorities, revocation_list",
    "finding": "findings that the bundles name",
    "gpu": "GPUs of the machine, by number",
    "kind": "infer, deliver, prove, shadow, fetch, revise, admit for jobs; ct, cxr, other for studies; ct, cxr, all "
            "for stages; availability, procedure_step, unknown for notices; seg, sr for corrections",
    "loop": "watch, assemble, ask, lease, sending, infer, infer-<number>, drift, copies-<folder>, retain, behind, correct, "
            "deliver-<target>, prove-<target>, fetch-<archive>, work-<manager>",
    "manager": "places under workitems.managers, by name",
    "measure": "input mean, input spread, input detail, unfamiliarity, score <output of the bundle>",
    "modality": "modalities accepted, other, unknown",
    "outcome": "named in each description", "presence": "present, absent",
    "place": "receive.tls, deliver.targets.<target>.tls, assemble.ask.<name>.tls, priors.archives.<name>.tls, "
             "workitems.managers.<name>.tls",
    "provider": "execution providers of ONNX Runtime",
    "reason": "reason codes of the README; announced, pacs_count, quiet, longest_wait, fetched for completions; for callers "
              "those of policy.Refusal, door.Shut and handshake.Trouble",
    "scanner": "maker and model as images name them, at most 100 by bundle and site, then other",
    "site": "institution as images name it, else the calling AE title; bounded as scanner",
    "stage": "decode, infer, follow, report, deliver", "state": "receiving, queued, inferring",
    "target": "places under deliver, by name", "urgency": "stat, urgent, routine, low", "verdict": "agree, disagree",
    "version": "versions installed",
}
"""Each label and what bounds it."""


@dataclass(frozen=True)
class Family:
    """One metric as Prometheus knows it: name, type, labels, what it says."""

    name: str
    type: str
    labels: tuple[str, ...]
    documentation: str


class Metrics:
    """The metrics of one process, on a registry of their own; names and units by Prometheus conventions."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._of_receiving(self.registry)
        self._of_triage(self.registry)
        self._of_models(self.registry)
        self._of_results(self.registry)
        self._of_the_house(self.registry)
        ProcessCollector(registry=self.registry)  # process_*: memory, CPU, files, when it began

    def _of_receiving(self, r: CollectorRegistry) -> None:
        self.associations = Counter("associations", "Associations by outcome (accepted, rejected, aborted).",
                                    ["outcome"], namespace=_PREFIX, registry=r)
        self.associations_open = Gauge("associations_open", "Associations open now.", namespace=_PREFIX, registry=r)
        self.instances = Counter("instances_received", "Instances by modality and outcome (stored, duplicate, "
                                 "quarantined, own_result, foreign_result, correction, "
                                 "refused).",
                                 ["modality", "outcome"], namespace=_PREFIX, registry=r)
        self.turned_away = Counter("callers_turned_away", "Connections closed and associations rejected, by reason.",
                                   ["reason"], namespace=_PREFIX, registry=r)
        self.instances_refused = Counter("instances_refused", "Instances refused, by reason code.", ["reason"],
                                         namespace=_PREFIX, registry=r)
        self.received_bytes = Counter("received_bytes", "Bytes of data sets stored.", namespace=_PREFIX, registry=r)
        self.store_seconds = Histogram("store_duration_seconds", "C-STORE request to response.",
                                       namespace=_PREFIX, registry=r, buckets=_SECONDS)
        self.notices = Counter("notices", "Notices by kind (availability, procedure_step) and outcome (new, duplicate, "
                               "unknown, ended, refused).", ["kind", "outcome"], namespace=_PREFIX, registry=r)

    def _of_triage(self, r: CollectorRegistry) -> None:
        self.studies_complete = Counter("studies_complete", "Studies judged complete, by kind and outcome (queued, "
                                        "not_assessed).", ["kind", "outcome"], namespace=_PREFIX, registry=r)
        self.completions = Counter("completions", "Studies judged complete, by what said so (announced, pacs_count, "
                                   "quiet, longest_wait).", ["reason"], namespace=_PREFIX, registry=r)
        self.inquiries = Counter("inquiries", "Questions to a PACS how many images of a study it holds, by outcome (equal, "
                                 "more, fewer, failed).", ["outcome"], namespace=_PREFIX, registry=r)
        self.priors_fetched = Counter("priors_fetched", "Earlier studies asked for, by archive and outcome (fetched, empty, "
                                      "failed, mismatch: of another patient).", ["archive", "outcome"],
                                      namespace=_PREFIX, registry=r)
        self.work_items = Counter("work_items", "Work items, by manager and outcome (claimed, taken: by others, completed, "
                                  "canceled, lost: ended by others).", ["manager", "outcome"], namespace=_PREFIX, registry=r)
        self.early_starts = Counter("early_starts", "Looks that began before the study was complete, by kind.", ["kind"],
                                    namespace=_PREFIX, registry=r)
        self.refusals = Counter("refusals", "Studies not assessed, by reason code.", ["reason"],
                                namespace=_PREFIX, registry=r)
        self.queue_depth = Gauge("queue_depth", "Jobs waiting, by kind and urgency.", ["kind", "urgency"],
                                 namespace=_PREFIX, registry=r)
        self.queue_oldest_seconds = Gauge("queue_oldest_seconds", "Age of the oldest waiting job, by kind.", ["kind"],
                                          namespace=_PREFIX, registry=r)
        self.studies_open = Gauge("studies_open", "Studies on their way, by state (receiving, queued, inferring).",
                                  ["state"], namespace=_PREFIX, registry=r)
        self.studies_overdue = Gauge("studies_overdue", "Complete studies without a result although their deadline is past, "
                                     "by urgency.", ["urgency"], namespace=_PREFIX, registry=r)
        self.last_received_seconds = Gauge("last_received_timestamp_seconds", "When the last image came, Unix time; 0 "
                                           "before the first.", namespace=_PREFIX, registry=r)
        self.queue_wait_seconds = Histogram("queue_wait_seconds", "Queued to claimed, by urgency.", ["urgency"],
                                            namespace=_PREFIX, registry=r, buckets=_SECONDS)
        self.overtakes = Counter("overtakes", "Less urgent jobs that waited longer and were passed when a job was claimed, "
                                 "by the urgency of the one that passed.", ["urgency"], namespace=_PREFIX, registry=r)

        self.slices_ahead = Counter("slices_ahead", "CT slices that were read while their study arrived, by outcome (used, "
                                    "dropped).", ["outcome"], namespace=_PREFIX, registry=r)
        self.ahead_bytes = Gauge("ahead_bytes", "Memory of what was read ahead and not used yet.", namespace=_PREFIX,
                                 registry=r)
        self.held_seconds = Counter("look_held_seconds", "Time that looks under way stood still for more urgent ones, by "
                                    "the urgency of what stood.", ["urgency"], namespace=_PREFIX, registry=r)

    def _of_models(self, r: CollectorRegistry) -> None:
        self.stage_seconds = Histogram("stage_duration_seconds", "Time in each stage (decode, infer, follow, report, "
                                       "deliver; the slices of a CT are decoded beside the network, decode is their sum).",
                                       ["stage", "kind"], namespace=_PREFIX, registry=r, buckets=_SECONDS)
        self.jobs = Counter("jobs_ended", "Jobs by kind and outcome (done, retried, parked, refused).",
                            ["kind", "outcome"], namespace=_PREFIX, registry=r)
        self.jobs_parked = Gauge("jobs_parked", "Jobs that need a person.", ["kind"], namespace=_PREFIX, registry=r)
        self.shadow_looks = Counter("shadow_looks", "Looks beside the active bundles, by bundle and outcome (agreed, "
                                    "differed, refused).", ["bundle", "outcome"], namespace=_PREFIX, registry=r)
        self.batch_images = Histogram("inference_batch_images", "Images or slices in one run of a model, by bundle.",
                                      ["bundle"], namespace=_PREFIX, registry=r, buckets=_IMAGES)
        self.sessions_replaced = Counter("sessions_replaced", "Sessions of a model that were replaced, by bundle and cause "
                                         "(failed, hung).", ["bundle", "cause"], namespace=_PREFIX, registry=r)
        self.inference_seconds = Histogram("inference_duration_seconds", "One run of a model, by bundle.", ["bundle"],
                                           namespace=_PREFIX, registry=r, buckets=_SECONDS)
        self.probability = Histogram("finding_probability", "Probabilities that a model gave, by bundle and finding: what "
                                     "drift is seen in.", ["bundle", "finding"], namespace=_PREFIX, registry=r,
                                     buckets=_PROBABILITY)

    def _of_results(self, r: CollectorRegistry) -> None:
        self.findings = Counter("findings", "Findings by bundle, name and presence.", ["bundle", "finding", "presence"],
                                namespace=_PREFIX, registry=r)
        self.time_to_notification_seconds = Histogram(
            "time_to_notification_seconds", "Last image received to what the full look found on the worklist, before "
            "its documents are made, by urgency, kind and bundle (that which calls for the most urgent reading; without a "
            "flag the leading one).",
            ["urgency", "kind", "bundle"], namespace=_PREFIX, registry=r, buckets=_SECONDS)
        self.first_look_seconds = Histogram("first_look_seconds", "Last image received to what a first look at a CT says on "
                                            "the worklist, by urgency.", ["urgency"], namespace=_PREFIX, registry=r,
                                            buckets=_SECONDS)
        self.first_looks = Counter("first_looks", "First looks, by what the full look made of their flags (confirmed, "
                                   "raised, withdrawn).", ["outcome"], namespace=_PREFIX, registry=r)
        self.time_to_reading_seconds = Histogram(
            "time_to_reading_seconds", "Last image received to marked as read by a person, by urgency when it was read "
            "and kind.", ["urgency", "kind"], namespace=_PREFIX, registry=r, buckets=_READING_SECONDS)
        self.verdicts = Counter("verdicts", "Verdicts of readers on findings, by bundle and finding.",
                                ["bundle", "finding", "verdict"], namespace=_PREFIX, registry=r)
        self.corrections = Counter(
            "corrections", "Segmentations and reports sent back by others, by kind (seg, sr) and outcome (attached, "
            "set_aside).", ["kind", "outcome"], namespace=_PREFIX, registry=r)
        self.deliveries = Counter("deliveries", "Objects sent, by target and outcome (stored, failed, refused).",
                                  ["target", "outcome"], namespace=_PREFIX, registry=r)
        self.commitments = Counter(
            "commitments", "Objects by target and what came of proving them (asked, commit, cfind, stored, failed, late).",
            ["target", "outcome"], namespace=_PREFIX, registry=r)
        self.proof_seconds = Histogram("proof_delay_seconds", "Stored to proven, by target.", ["target"],
                                       namespace=_PREFIX, registry=r, buckets=_SECONDS)
        self.unproven = Gauge("deliveries_unproven", "Objects stored but not proven, by target.", ["target"],
                              namespace=_PREFIX, registry=r)
        self.target_seconds = Gauge("notification_target_seconds", "Turnaround that is aimed at, by urgency.", ["urgency"],
                                    namespace=_PREFIX, registry=r)

    def _of_the_house(self, r: CollectorRegistry) -> None:
        self.images_deleted = Counter("images_deleted", "Images deleted some time after their result was delivered.",
                                      namespace=_PREFIX, registry=r)
        self.audit_failures = Counter("audit_failures", "Audit messages that a file or a syslog receiver did not take.",
                                      namespace=_PREFIX, registry=r)
        self.decoders_ended = Counter("decoders_ended", "Decoding processes ended, by cause (crashed, timeout, recycled).",
                                      ["cause"], namespace=_PREFIX, registry=r)
        self.engine_info = Gauge("engine_info", "1 for the execution provider in use, by bundle and version.",
                                 ["bundle", "version", "provider"], namespace=_PREFIX, registry=r)
        self.sessions_lost = Counter("engine_sessions_lost", "Sessions on a cluster that were lost or hung and replaced, "
                                     "by bundle.", ["bundle"], namespace=_PREFIX, registry=r)
        place = ["bundle", "scanner", "site"]
        self.drift_index = Gauge("drift_stability_index", "Population stability index of what a network was given and said "
                                 "against its bundle's reference, by scanner and site.", [*place, "measure"],
                                 namespace=_PREFIX, registry=r)
        self.drift_images = Gauge("drift_images", "Images that this index is of.", place, namespace=_PREFIX, registry=r)
        self.disk_free_bytes = Gauge("disk_free_bytes", "Free space where images are kept.", namespace=_PREFIX,
                                     registry=r)
        self.disk_size_bytes = Gauge("disk_size_bytes", "Size of the disk where images are kept.", namespace=_PREFIX,
                                     registry=r)
        self.loop_last_turn_seconds = Gauge("loop_last_turn_timestamp_seconds", "When a loop last came around without an "
                                            "error, Unix time.", ["loop"], namespace=_PREFIX, registry=r)
        self.gpu_memory_used_bytes = Gauge("gpu_memory_used_bytes", "Memory of the GPU in use, by all programs.", ["gpu"],
                                           namespace=_PREFIX, registry=r)
        self.gpu_memory_size_bytes = Gauge("gpu_memory_size_bytes", "Memory of the GPU.", ["gpu"], namespace=_PREFIX,
                                           registry=r)
        self.gpu_busy_ratio = Gauge("gpu_busy_ratio", "Part of the last moment in which the GPU was computing, 0 to 1.",
                                    ["gpu"], namespace=_PREFIX, registry=r)
        self.certificate_days_left = Gauge(
            "certificate_days_left", "Days until a certificate, an authority's or a revocation list ends, by the section of "
            "the settings that names the file and by its field there.", ["place", "file"], namespace=_PREFIX, registry=r)
        self.build_info = Gauge("build_info", "1, with the version.", ["version"], namespace=_PREFIX, registry=r)

    def families(self) -> list[Family]:
        """Return every metric of ours in the order of the table."""
        made = [m for m in vars(self).values() if isinstance(m, MetricWrapperBase)]
        return [Family(f.name + ("_total" if f.type == "counter" else ""), f.type, tuple(m._labelnames), f.documentation)
                for m in made for f in m.describe()]

    def exposition(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self.registry)
