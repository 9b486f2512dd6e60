"""Every metric, label and bucket, in one table. Labels are bounded: never a UID, a name or free text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_PREFIX = "firstlook"


class Metrics:
    """The metrics of one process, on a registry of their own; names and units by Prometheus conventions."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        # receive
        self.associations = Counter("associations", "Associations by outcome (accepted, rejected, aborted).",
                                    ["outcome"], namespace=_PREFIX, registry=r)
        self.associations_open = Gauge("associations_open", "Associations open now.", namespace=_PREFIX, registry=r)
        self.instances = Counter("instances_received", "Instances by modality and outcome (stored, duplicate, "
                                 "quarantined, own_result, foreign_result, refused).",
                                 ["modality", "outcome"], namespace=_PREFIX, registry=r)
        self.received_bytes = Counter("received_bytes", "Bytes of data sets stored.", namespace=_PREFIX, registry=r)
        self.store_seconds = Histogram("store_duration_seconds", "C-STORE request to response.",
                                       namespace=_PREFIX, registry=r, buckets=_SECONDS)
        # assemble and triage
        self.studies_complete = Counter("studies_complete", "Studies judged complete, by kind and outcome (queued, "
                                        "not_assessed).", ["kind", "outcome"], namespace=_PREFIX, registry=r)
        self.completions = Counter("completions", "Studies judged complete, by what said so (announced, pacs_count, "
                                   "quiet, longest_wait).", ["reason"], namespace=_PREFIX, registry=r)
        self.early_starts = Counter("early_starts", "Looks that began before the study was complete, by kind.", ["kind"],
                                    namespace=_PREFIX, registry=r)
        self.refusals = Counter("refusals", "Studies not assessed, by reason code.", ["reason"],
                                namespace=_PREFIX, registry=r)
        self.queue_depth = Gauge("queue_depth", "Jobs waiting, by kind and urgency.", ["kind", "urgency"],
                                 namespace=_PREFIX, registry=r)
        self.queue_oldest_seconds = Gauge("queue_oldest_seconds", "Age of the oldest waiting job, by kind.", ["kind"],
                                          namespace=_PREFIX, registry=r)
        self.queue_wait_seconds = Histogram("queue_wait_seconds", "Queued to claimed, by urgency.", ["urgency"],
                                            namespace=_PREFIX, registry=r, buckets=_SECONDS)
        self.overtakes = Counter("overtakes", "Less urgent jobs that waited longer and were passed when a job was claimed, "
                                 "by the urgency of the one that passed.", ["urgency"], namespace=_PREFIX, registry=r)
        # jobs
        self.stage_seconds = Histogram("stage_duration_seconds", "Time in each stage (decode, infer, report, deliver).",
                                       ["stage", "kind"], namespace=_PREFIX, registry=r, buckets=_SECONDS)
        self.jobs = Counter("jobs_ended", "Jobs by kind and outcome (done, retried, parked, refused).",
                            ["kind", "outcome"], namespace=_PREFIX, registry=r)
        self.jobs_parked = Gauge("jobs_parked", "Jobs that need a person.", ["kind"], namespace=_PREFIX, registry=r)
        # results
        self.findings = Counter("findings", "Findings by bundle, name and presence.", ["bundle", "finding", "presence"],
                                namespace=_PREFIX, registry=r)
        self.time_to_notification_seconds = Histogram(
            "time_to_notification_seconds", "Last image received to result on the worklist, by urgency, kind and bundle "
            "(that which calls for the most urgent reading; without a flag the leading one).",
            ["urgency", "kind", "bundle"], namespace=_PREFIX, registry=r, buckets=_SECONDS)
        self.deliveries = Counter("deliveries", "Objects sent, by target and outcome (stored, failed, refused).",
                                  ["target", "outcome"], namespace=_PREFIX, registry=r)
        self.commitments = Counter(
            "commitments", "Objects by target and what came of proving them (asked, commit, cfind, stored, failed, late).",
            ["target", "outcome"], namespace=_PREFIX, registry=r)
        self.proof_seconds = Histogram("proof_delay_seconds", "Stored to proven, by target.", ["target"],
                                       namespace=_PREFIX, registry=r, buckets=_SECONDS)
        self.unproven = Gauge("deliveries_unproven", "Objects stored but not proven, by target.", ["target"],
                              namespace=_PREFIX, registry=r)
        # the house itself
        self.decoders_ended = Counter("decoders_ended", "Decoding processes ended, by cause (crashed, timeout, recycled).",
                                      ["cause"], namespace=_PREFIX, registry=r)
        self.engine_info = Gauge("engine_info", "1 for the execution provider in use, by bundle and version.",
                                 ["bundle", "version", "provider"], namespace=_PREFIX, registry=r)
        self.disk_free_bytes = Gauge("disk_free_bytes", "Free space where images are kept.", namespace=_PREFIX,
                                     registry=r)
        self.build_info = Gauge("build_info", "1, with the version.", ["version"], namespace=_PREFIX, registry=r)

    def exposition(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self.registry)
