"""The tables of the settings: every field with its unit, its default and what is accepted."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from service.access.door import Login
from service.access.sections import Oidc
from service.deliver.places import AE_TITLE, FolderPlace, Hl7Place, Objects, Place, StowPlace, WebhookPlace
from service.domain.commitment import Proof
from service.domain.urgency import Urgency
from service.tls.contexts import Demand
from service.tls.sections import Fingerprint, PeerTls, ReceiveTls
from service.web.site import ReadWithin, SiteViewer


class Section(BaseModel):
    """A table of the settings: frozen, and no key but these."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Peer(Section):
    """A DICOM sender that may call us."""

    ae_title: str = Field(description="Calling AE title, 1 to 16 characters.", pattern=AE_TITLE, max_length=16)
    address: str = Field("", description="IP address or network (CIDR) it must call from; empty: any.")
    certificate_fingerprint: Fingerprint = Field("", description="TLS: SHA-256 of the certificate it must show; empty: any.")
    certificate_name: str = Field("", description="TLS: a subject alternative name (DNS, IP, URI) of the certificate it "
                                  "must show; empty: any.")

    @field_validator("address")
    @classmethod
    def _network(cls, value: str) -> str:
        if value:
            ipaddress.ip_network(value, strict=False)
        return value


class Receive(Section):
    """The DICOM listener."""

    ae_title: str = Field("FIRSTLOOK", description="Our AE title; a caller must name it.", pattern=AE_TITLE, max_length=16)
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface.")
    port: int = Field(11112, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    plain: bool = Field(True, description="Listen on that port, without TLS; false: only with TLS (receive.tls).")
    any_calling_ae: bool = Field(False, description="Accept every calling AE title; false: only those under peers.")
    peers: tuple[Peer, ...] = Field((), description="Senders that may call, each with ae_title and address.")
    close_unlisted_addresses: bool = Field(True, description="Where every peer has an address: close connections from "
                                           "others before a byte is read; false: reject them by name.")
    max_associations: int = Field(64, ge=1, le=1000, description="Associations open at the same time.")
    max_associations_per_ae: int = Field(0, ge=0, le=1000, description="The same, of one calling AE title; 0: no own limit.")
    max_associations_per_address: int = Field(0, ge=0, le=1000, description="The same, of one address; 0: no own limit.")
    max_waiting: int = Field(128, ge=1, le=1000, description="Connections that have not asked for an association yet; for "
                             "one more the one that waits longest is closed.")
    max_waiting_per_address: int = Field(32, ge=1, le=1000, description="The same, of one address.")
    max_pdu_bytes: int = Field(1_048_576, ge=4096, le=16_777_216, description="Largest PDU we accept, bytes.")
    max_object_bytes: int = Field(2_147_483_648, ge=1_048_576, description="Largest object we accept, bytes.")
    association_timeout_s: float = Field(5.0, gt=0, le=120, description="Time to finish negotiating, seconds.")
    idle_timeout_s: float = Field(60.0, gt=0, le=3600, description="Time a peer may stay silent, seconds.")
    notice_s: float = Field(0.0, ge=0, le=300, description="Told to stop (SIGTERM) it is not ready at once, and takes "
                            "associations for so long still: until a load balancer has noticed, seconds.")
    drain_s: float = Field(20.0, ge=0, le=3600, description="Then its port is closed, and open associations may end by "
                           "themselves for so long, seconds; what is still open is aborted between two images.")
    min_free_bytes: int = Field(1_073_741_824, ge=0,
                                description="Below this free space senders are rejected or get 0xA700, bytes.")
    max_study_images: int = Field(10_000, ge=1, description="Most images of one study; further ones get 0xA700.")
    max_study_bytes: int = Field(5_000_000_000, ge=1, description="Most bytes of one study; images beyond get 0xA700.")
    notices: bool = Field(True, description="Take notices of completeness: Instance Availability Notification, MPPS.")
    corrections: bool = Field(True, description="Keep SEG and SR that others send for a study that is here, and attach "
                              "those of a person as feedback; false: they are taken and not kept.")
    fast_path: bool = Field(True, description="Images go from the socket into the spool; false: all by pynetdicom.")
    ready_mib: int = Field(400, ge=0, le=65_536, description="Room for files made ready before images come, which makes "
                           "answers faster (512 CT slices and 2,500 small objects in a burst), MiB; 0: none.")
    tls: ReceiveTls = Field(default_factory=ReceiveTls)

    @model_validator(mode="after")
    def _reachable(self) -> Receive:
        if not self.plain and not self.tls.enabled:
            raise ValueError("plain is false and tls.enabled is false: nobody could call")
        if self.plain and self.tls.enabled and self.port == self.tls.port != 0:
            raise ValueError(f"port and tls.port are both {self.port}; each needs its own")
        if not self.tls.enabled or self.tls.client_certificate is Demand.NONE:
            for peer in self.peers:
                if peer.certificate_fingerprint or peer.certificate_name:
                    raise ValueError(f"the peer {peer.ae_title!r} must show a certificate, but none is asked for; accepted: "
                                     "tls.enabled = true with tls.client_certificate \"required\" or \"optional\"")
        return self


class Asked(Section):
    """A PACS that is asked how many images of a study it holds."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,32}$", description="Short name, for the trace.")
    ae_title: str = Field(description="Its AE title.", pattern=AE_TITLE, max_length=16)
    host: str = Field(description="Its address.")
    port: int = Field(ge=1, le=65535, description="Its port.")
    calling_ae_title: str = Field("", description="AE title we call with; empty: receive.ae_title.")
    timeout_s: float = Field(5.0, gt=0, le=60, description="Network time-out, seconds.")
    tls: PeerTls = Field(default_factory=PeerTls)


class Assemble(Section):
    """When a study is complete."""

    quiet_cxr_s: float = Field(5.0, ge=0, le=3600, description="Radiographs: quiet time after release, seconds.")
    quiet_ct_s: float = Field(60.0, ge=0, le=3600, description="CT: quiet time after release, seconds.")
    learn_quiet: bool = Field(True, description="Learn the quiet time of each sender and modality from its studies.")
    learn_from_studies: int = Field(20, ge=5, le=200, description="So many studies must be known before that.")
    quiet_least_s: float = Field(2.0, ge=0, le=3600, description="Least quiet time that may be learned, seconds.")
    quiet_most_s: float = Field(300.0, ge=0, le=86400, description="Longest quiet time that may be learned, seconds.")
    start_early: bool = Field(True, description="Models look at radiographs and whole CT series before the end.")
    early_cxr_s: float = Field(0.5, ge=0, le=3600, description="Radiographs: quiet before release, seconds; after it none.")
    early_ct_s: float = Field(3.0, ge=0, le=3600, description="CT: quiet so long after release, or as learned, seconds.")
    longest_wait_s: float = Field(900.0, gt=0, le=86400, description="Complete at the latest after this, seconds.")
    ask: tuple[Asked, ...] = Field((), description="PACS that are asked how many images of a study they hold.")
    ask_after_s: float = Field(2.0, ge=0, le=3600, description="They are asked when a study was quiet so long, seconds.")
    ask_every_s: float = Field(5.0, ge=0.1, le=3600, description="And again after this, seconds.")
    min_ct_slices: int = Field(10, ge=3, le=1000, description="Fewest slices of a CT volume.")
    max_slice_gap_mm: float = Field(5.0, gt=0, le=10, description="Widest slice distance accepted, mm.")
    ct_kernel: str = Field("any", pattern="^(any|soft|lung)$",
                           description="Of equally thin CT series the one with this kernel is read: any, soft or lung.")


class Triage(Section):
    """Target turnaround of each urgency: received to result, seconds. The queue is ordered by received + target."""

    stat_s: float = Field(120.0, gt=0, description="stat, seconds.")
    urgent_s: float = Field(600.0, gt=0, description="urgent, seconds.")
    routine_s: float = Field(3600.0, gt=0, description="routine, seconds.")
    low_s: float = Field(14400.0, gt=0, description="low, seconds.")
    rules: Path | None = Field(None, description="TOML file of rules of urgency instead of the built-in ones, which "
                               "`firstlook triage rules` prints.")
    emergency_ae_titles: tuple[str, ...] = Field((), description="Calling AE titles whose studies are urgent.")
    longest_reading_wait_s: float = Field(28800.0, ge=0, description="Reading list: unread for this long counts as urgent, "
                                          "where readers mark what they have read, seconds; 0: never.")

    def target_s(self, urgency: Urgency) -> float:
        """Return the target turnaround of an urgency, seconds."""
        return float(getattr(self, f"{urgency.value}_s"))


class Decode(Section):
    """Compressed pixels are decoded in processes apart, so that a damaged or hostile image cannot end the service."""

    processes: int = Field(2, ge=1, le=64, description="Decoding processes, kept warm; about 40 MB each.")
    timeout_s: float = Field(60.0, gt=0, le=600, description="Longest time one image may take, seconds.")
    memory_bytes: int = Field(2_147_483_648, ge=134_217_728, description="Memory a process may take, bytes.")
    frames_each: int = Field(2000, ge=1, description="Images after which a process is replaced by a new one.")
    max_study_bytes: int = Field(4_294_967_296, ge=1_048_576,
                                 description="Most memory for the decoded images of a study, bytes; more is refused.")


class Work(Section):
    """Jobs: leases and tries."""

    passing: int = Field(15, ge=0, le=16, description="Looks that may be under way beside the first, each going before "
                         "the others (four urgencies, of each a radiograph, one of which only the documents are missing, a "
                         "CT until its first look is told, and one that goes on: 15), which stand still meanwhile; 0: none "
                         "is passed.")
    ahead_bytes: int = Field(1_073_741_824, ge=0, description="CT slices are read while they arrive, behind all other work; "
                             "memory for them, bytes (about 1.4 MB a slice); 0: not before the study is looked at.")
    looks: int = Field(1, ge=1, le=64, description="Looks at a time, in order of the queue; more than one where the models "
                       "run on several machines.")
    longest_hold_s: float = Field(60.0, ge=0, description="A look stands still no longer than this in all, seconds.")
    lease_s: float = Field(60.0, gt=0, description="Jobs of a process that gave no sign of life for so long are taken by "
                           "another, seconds.")
    longest_job_s: float = Field(600.0, gt=0, description="And so is a job that is under way for longer, seconds.")
    tries: int = Field(5, ge=1, le=100, description="Tries before a job is parked.")
    first_wait_s: float = Field(2.0, ge=0, description="Wait after the first failure, seconds.")
    wait_factor: float = Field(3.0, ge=1, le=10, description="Each further wait is this many times longer.")
    longest_wait_s: float = Field(600.0, gt=0, description="Longest wait between tries, seconds.")
    deliver_for_h: float = Field(168.0, gt=0, le=8760, description="A PACS that is away is tried for this long, hours.")


class Report(Section):
    """The objects that go back."""

    @field_validator("institution_name", "series_description_prefix")
    @classmethod
    def _long_string(cls, value: str, about: ValidationInfo) -> str:
        longest = 64 if about.field_name == "institution_name" else 24
        if len(value) > longest or "\\" in value or not value.isprintable():
            raise ValueError(f"accepted: at most {longest} characters, no backslash and no control character")
        return value

    institution_name: str = Field("", description="Institution Name of our objects; empty: left out.")
    series_description_prefix: str = Field("AI", description="Begins the Series Description of our objects.")
    series_number: int = Field(900, ge=1, le=2147483000, description="Series Number of the first of our series.")
    secondary_capture: bool = Field(True, description="Also pictures (SC): saliency of radiographs, key slices of CT.")
    presentation_state: bool = Field(False, description="Also outlines as presentation states (GSPS).")
    key_objects: bool = Field(False, description="Also a selection of key images (KOS) when something was found.")
    report_refusals: bool = Field(True, description="A study not assessed gets an SR that says so.")


class Target(Objects):
    """A DICOM peer that results go to."""

    ae_title: str = Field(description="Its AE title.", pattern=AE_TITLE, max_length=16)
    host: str = Field(description="Its address.")
    port: int = Field(ge=1, le=65535, description="Its port.")
    calling_ae_title: str = Field("", description="AE title we call with; empty: receive.ae_title.")
    timeout_s: float = Field(30.0, gt=0, le=600, description="Network time-out, seconds.")
    transfer_syntax: str = Field("auto", pattern="^(auto|explicit|implicit)$",
                                 description="auto: as the objects are, else implicit VR; explicit or implicit: only that.")
    proof: Proof = Field(Proof.NONE, description="Counts as delivered when: none (it answered Success), "
                         "cfind (a query lists the object), commit (storage commitment).")
    prove_within_s: float = Field(3600.0, gt=0, le=604800, description="Without proof until then it is asked by a query, "
                                  "and what it does not list is sent again, seconds.")
    report_wait_s: float = Field(2.0, ge=0, le=60, description="commit: the association stays open for a report, seconds.")
    tls: PeerTls = Field(default_factory=PeerTls)


class Deliver(Section):
    """Where results go."""

    targets: tuple[Target, ...] = Field((), description="Peers that receive every result.")
    stow: tuple[StowPlace, ...] = Field((), description="DICOMweb servers that receive every result (STOW-RS).")
    folders: tuple[FolderPlace, ...] = Field((), description="Folders that every result is written to.")
    hl7: tuple[Hl7Place, ...] = Field((), description="Receivers of HL7 v2 messages (ORU^R01 over MLLP).")
    webhooks: tuple[WebhookPlace, ...] = Field((), description="Web addresses that are told of every result.")

    @property
    def all(self) -> tuple[Place, ...]:
        """Every place that results go to."""
        return (*self.targets, *self.stow, *self.folders, *self.hl7, *self.webhooks)

    @field_validator("targets", "stow", "folders", "hl7", "webhooks")
    @classmethod
    def _distinct(cls, value: tuple[Place, ...], about: ValidationInfo) -> tuple[Place, ...]:
        others = [place.name for places in about.data.values() for place in places]
        if len({*others, *(t.name for t in value)}) < len(others) + len(value):
            raise ValueError("two targets have the same name; each needs its own")
        return value


class Web(Section):
    """The worklist page, the API, health and metrics."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8042, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    access_token: str = Field("", description="Password of the page and API (HTTP Basic, any user; or Bearer). "
                              "Where people log in, a token for programs that read.")
    login: Login = Field(Login.AUTO, description="People log in: auto (once there is an account), required, off. Beyond "
                         "loopback required, or else access_token.")
    session_idle_h: float = Field(4.0, gt=0, le=24, description="A login ends after so long without any action, hours.")
    session_longest_h: float = Field(12.0, gt=0, le=168, description="A login ends after this in any case, hours.")
    proxies: tuple[str, ...] = Field(("127.0.0.1",), description="Proxies (addresses, networks) whose X-Forwarded-For and "
                                     "-Proto are believed.")
    patient_names: str = Field("full", pattern="^(full|initials|hidden)$", description="How names are shown.")
    refresh_s: int = Field(5, ge=1, le=300, description="Pages that are not told of news ask for it this often, seconds.")
    window_h: float = Field(48.0, gt=0, le=8760, description="Studies without a new image for longer are left out, hours.")
    max_rows: int = Field(300, ge=1, le=5000, description="Most studies on the page.")
    read_within: ReadWithin = ReadWithin()
    viewers: tuple[SiteViewer, ...] = Field((), description="Viewers of the site that a study page leads to.")
    oidc: Oidc = Field(default_factory=Oidc)

    @field_validator("proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            ipaddress.ip_network(one, strict=False)
        return value


class Monitor(Section):
    """Health and metrics of a process that has no page: `firstlook listen` and `firstlook work`; traces of all."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(0, ge=0, le=65535, description="TCP port, its own for each process of a machine; 0: none. "
                      "Asks for web.access_token.")
    otlp_endpoint: str = Field("", pattern="^(https?://.+)?$", description="Traces go to this collector (OTLP over HTTP, as "
                               "http://127.0.0.1:4318/v1/traces); needs the extra otel; empty: none.")


class Store(Section):
    """Where images, results and the database are kept."""

    data_dir: Path = Field(Path("firstlook-data"), description="Folder of the spool and the results.")
    keep_images_h: float = Field(168.0, ge=0, le=876_000, description="Images are deleted this long after their result was "
                                 "delivered and proven, hours; results stay. 0: never.")
    bucket: str = Field("", description="Images and results are kept here, s3://BUCKET/PREFIX (extra s3), and data_dir "
                        "holds copies; empty: in data_dir, which several machines must share.")
    bucket_endpoint: str = Field("", description="URL of the S3 server; empty: as the environment says, else Amazon's. Keys "
                                 "come from the environment.")
    copies_h: float = Field(24.0, gt=0, le=8760, description="Copies of what is in the bucket are deleted then, hours.")
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in data_dir.")
