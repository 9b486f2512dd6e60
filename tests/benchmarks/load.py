"""What a large hospital's load does to the time until somebody is told: python -m tests.benchmarks.load [--quick]

A real service and a real PACS. Idle first: one study after the other, and one CT beside its own parts run alone. Then the
profile of a large hospital (120 radiographs and 30 CT an hour), speeded up until this machine is saturated, and one of half
as much again (180 with 45), with one study in seven STAT. How much saturates it is measured: a crowd of such studies is sent
at once, and the time until the last is in the PACS tells how many an hour the machine gets through, with all that the
service does beside its networks, the senders and the PACS; the load is a twentieth more than that. Every bar is a ratio to
something measured in the same run. Ends with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import numpy as np

from service.domain.urgency import Urgency
from tests.benchmarks.department import Department, Passage, Template, ct_template, cxr_template, department
from tests.benchmarks.parts import Parts

SHARES = {Urgency.STAT: 0.15, Urgency.URGENT: 0.2, Urgency.ROUTINE: 0.5, Urgency.LOW: 0.15}
PROFILES = {"peak": (120, 30), "stress": (180, 45)}
SATURATED, CROWD = 1.05, (32, 8)
"""The load, over what the machine gets through; radiographs and CT that are sent at once to learn that."""
STAT_LIMIT, LINE_LIMIT = 1.5, 1.25
ARRIVING_S, AFTER_LAST_S, RADIOGRAPH_S = 10.0, 3.0, 1.0
QUIET_S = 1.0
ASSEMBLE = {"quiet_cxr_s": 1.0, "quiet_ct_s": 20.0, "early_cxr_s": 0.1, "early_ct_s": QUIET_S, "learn_quiet": False}
Arrival = tuple[float, str, Urgency]
"""When a study is sent, seconds; its kind; its urgency."""
tell = partial(print, flush=True)


@dataclass
class Bars:
    """What has to be reached; failed: how many were missed."""

    failed: int = 0

    def say(self, told: str, ratio: float, limit: float) -> None:
        """Print one bar."""
        self.failed += ratio > limit
        tell(f"  {'reached' if ratio <= limit else 'MISSED '}  {told}: {ratio:.2f} (limit {limit})")


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that a share of all do not pass; not a number without values."""
    return sorted(values)[max(0, int(np.ceil(share * len(values))) - 1)] if values else float("nan")


def row(told: str, passages: Sequence[Passage]) -> None:
    """Print the time to notification of some studies."""
    values = [p.notified_s for p in passages]
    if values:
        p50, p95, p99 = (quantile(values, share) for share in (0.5, 0.95, 0.99))
        tell(f"  {told:<22} {len(values):4d} studies   p50 {p50:7.2f}   p95 {p95:7.2f}   p99 {p99:7.2f} s")


def one_by_one(here: Department, template: Template, urgency: Urgency, times: int) -> list[Passage]:
    """Send a study so many times, each when the one before is in the PACS."""
    found = []
    for _ in range(times):
        found += here.wait_for([here.send(template, urgency)], 300)
    if len(found) < times:
        raise SystemExit("a study did not get through in five minutes")
    return found


def arrivals(profile: tuple[int, int], speed: float, seconds: float, random: Random) -> list[Arrival]:
    """Return (second, kind, urgency) of every study: Poisson, at the rates of an hour times a speed."""
    made = []
    for kind, an_hour in zip(("cxr", "ct"), profile, strict=True):
        at = random.expovariate(an_hour * speed / 3600)
        while at < seconds:
            made.append((at, kind, random.choices(list(SHARES), list(SHARES.values()))[0]))
            at += random.expovariate(an_hour * speed / 3600)
    return sorted(made)


def under_load(here: Department, plan: Sequence[Arrival], templates: dict[str, list[Template]],
               ) -> tuple[list[Passage], float]:
    """Send studies, from four senders at a time, and wait until all are through; returns the times and the seconds."""
    sent = list[str]()
    began = time.monotonic()

    def one(at: float, kind: str, urgency: Urgency, which: int) -> None:
        time.sleep(max(0.0, began + at - time.monotonic()))
        sent.append(here.send(templates[kind][which % len(templates[kind])], urgency))

    with ThreadPoolExecutor(4) as senders:
        for done in [senders.submit(one, *study, which) for which, study in enumerate(plan)]:
            done.result()
    found = here.wait_for(sent, 600)
    if len(found) < len(sent):
        raise SystemExit(f"{len(sent) - len(found)} of {len(sent)} studies did not get through")
    return found, time.monotonic() - began


def capacity(here: Department, templates: dict[str, list[Template]], crowd: tuple[int, int]) -> float:
    """Return how many times the peak hour of the hospital this machine gets through, by a crowd of studies sent at once."""
    kinds = Random(5).sample(["cxr", "ct"], sum(crowd), counts=crowd)
    _, took_s = under_load(here, [(0.0, kind, Urgency.ROUTINE) for kind in kinds], templates)
    return 3600 * len(kinds) / sum(PROFILES["peak"]) / took_s


def network_share(here: Department, threads: int, act: Callable[[], object]) -> float:
    """Return the part of the service's processor time that was the networks' own while something was done.

    A CT's network runs on one thread for each chunk, a radiograph's on all of them.
    """
    def now() -> tuple[float, float]:
        ct = here.metric("firstlook_inference_duration_seconds_sum", bundle="ct-lung-infection")
        every = here.metric("firstlook_inference_duration_seconds_sum")
        return ct + threads * (every - ct), here.metric("process_cpu_seconds_total")

    before = now()
    act()
    after = now()
    return (after[0] - before[0]) / (after[1] - before[1])


def line_alone(folder: Path, template: Template, rounds: int, precision: str, bars: Bars) -> None:
    """One CT from claim to PACS, nothing read ahead, beside the sum of its parts run alone, in turns."""
    parts = Parts(template, folder / "parts", precision=precision)
    with department(folder / "line", assemble=ASSEMBLE, work={"ahead_bytes": 0}, infer={"precision": precision}) as here:
        one_by_one(here, template, Urgency.ROUTINE, 1)
        parts.costs()
        whole, alone, used_s = [], [], []
        for _ in range(rounds):
            before_s = here.cpu_s()
            passage = one_by_one(here, template, Urgency.ROUTINE, 1)[0]
            used_s.append(here.cpu_s() - before_s)
            whole.append(passage.delivered_at - passage.started_at)
            alone.append(parts.costs())
    decode, network, seg = (statistics.median(one[k].wall_s for one in alone) for k in range(3))
    ratio = statistics.median(w / sum(c.wall_s for c in one) for w, one in zip(whole, alone, strict=True))
    cpu = statistics.median(u / sum(c.cpu_s for c in one) for u, one in zip(used_s, alone, strict=True))
    tell(f"one CT of {len(template.files)} slices, claimed to stored in the PACS: {statistics.median(whole):.2f} s; alone: "
         f"decode {decode:.2f}, network {network:.2f}, SEG {seg:.2f} s; processor time, with receiving and sending: "
         f"{statistics.median(used_s):.2f} s, {cpu:.2f} times the parts'")
    bars.say("whole line over the sum of decode, network and SEG alone", ratio, LINE_LIMIT)


def arriving(here: Department, template: Template, rounds: int, bars: Bars) -> None:
    """One CT whose sender takes ten seconds and more: what remains after its last image."""
    found, used_s = list[Passage](), list[float]()
    for _ in range(rounds):
        uid = here.send(template, Urgency.ROUTINE, ARRIVING_S)
        before_s = here.cpu_s()
        found += here.wait_for([uid], 300)
        used_s.append(here.cpu_s() - before_s)
    after = [p.delivered_s - QUIET_S for p in found]
    first = statistics.median(p.notified_s for p in found)
    tell(f"one CT of {len(template.files)} slices, sent in {ARRIVING_S:g} s: SEG and SR in the PACS {QUIET_S:g} s of quiet "
         f"time + {statistics.median(after):.2f} s after the last image; first look on the worklist after {first:.2f} s; "
         f"processor time after the last image {statistics.median(used_s):.2f} s")
    bars.say(f"of {AFTER_LAST_S:g} s after the last image and the quiet time", statistics.median(after) / AFTER_LAST_S, 1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything and print the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small studies, a few of each: only to see that it runs")
    parser.add_argument("--slices", type=int, default=300, help="of the CT that is measured alone (300)")
    parser.add_argument("--load-slices", type=int, default=100, help="of each CT under load (100)")
    parser.add_argument("--seconds", type=float, default=120.0, help="that each profile lasts (120)")
    parser.add_argument("--speed", type=float, default=0.0, help="times the hospital's; 0: so that the machine is "
                        "saturated under the peak profile")
    parser.add_argument("--rounds", type=int, default=3, help="of what is measured alone (3)")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "int8"], help="file of the CT's network "
                        "that runs when it is measured alone, as infer.precision (auto: int8)")
    parser.add_argument("--only", choices=["line", "arriving", "load"], help="only this part")
    asked = parser.parse_args(arguments)
    slices, load_slices, seconds = (80, 70, 15.0) if asked.quick else (asked.slices, asked.load_slices, asked.seconds)
    rounds, idle, crowd, bars = (1, 3, (4, 1), Bars()) if asked.quick else (asked.rounds, 20, CROWD, Bars())
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # the service is ended all the same
    with tempfile.TemporaryDirectory(prefix="load-") as made:
        folder = Path(made)
        large = ct_template(slices)
        if asked.only in (None, "line"):
            line_alone(folder, large, rounds, asked.precision, bars)
        if asked.only in (None, "arriving"):
            with department(folder / "arriving", assemble=ASSEMBLE) as here:
                one_by_one(here, ct_template(80), Urgency.ROUTINE, 1)
                arriving(here, large, rounds, bars)
        if asked.only in (None, "load"):
            with department(folder / "load", assemble=ASSEMBLE) as here:
                load(here, load_slices, idle, crowd, seconds, asked.speed, bars)
    return 1 if bars.failed else 0


def load(here: Department, slices: int, idle: int, crowd: tuple[int, int], seconds: float, speed: float, bars: Bars) -> None:
    """The idle machine, what it can do, then each profile."""
    templates = {"cxr": [cxr_template(k) for k in range(3)], "ct": [ct_template(slices)]}
    for kind in templates.values():
        one_by_one(here, kind[0], Urgency.ROUTINE, 1)  # warm
    quiet = {"cxr": one_by_one(here, templates["cxr"][0], Urgency.STAT, idle),
             "ct": one_by_one(here, templates["ct"][0], Urgency.STAT, max(2, idle // 4))}
    tell(f"idle, STAT, last image to what the worklist says first; CT of {slices} slices")
    for kind, passages in quiet.items():
        row(kind, passages)
    p95 = quantile([p.delivered_s for p in quiet["cxr"]], 0.95)
    bars.say(f"of {RADIOGRAPH_S:g} s: one radiograph, last byte to stored in the PACS, p95", p95 / RADIOGRAPH_S, 1.0)
    if not speed:
        most = capacity(here, templates, crowd)
        speed = SATURATED * most
        tell(f"a crowd of {crowd[0]} radiographs and {crowd[1]} CT at once: the machine gets through {most:.1f} times the "
             "hospital's peak hour")
    for name, profile in PROFILES.items():
        told = f"{name}: {profile[0]} radiographs and {profile[1]} CT an hour, {speed:.1f} times as fast"
        found: list[Passage] = []
        plan = arrivals(profile, speed, seconds, Random(7))
        share = network_share(here, 2, partial(_one_profile, here, told, plan, templates, found))
        tell(f"  the networks' own share of the processor time: {100 * share:.0f} %")
        for urgency in Urgency:
            for kind in quiet:
                row(f"{urgency.value} {kind}", _of(found, kind, urgency))
        for kind, passages in quiet.items():
            stat, alone = ([p.notified_s for p in some] for some in (_of(found, kind, Urgency.STAT), passages))
            if stat:
                ratio = quantile(stat, 0.95) / quantile(alone, 0.95)
                bars.say(f"STAT {kind} p95 at saturation over idle", ratio, STAT_LIMIT)


def _of(passages: Sequence[Passage], kind: str, urgency: Urgency) -> list[Passage]:
    return [p for p in passages if (p.kind, p.urgency) == (kind, urgency.value)]


def _one_profile(here: Department, told: str, plan: Sequence[Arrival], templates: dict[str, list[Template]],
                 found: list[Passage]) -> None:
    passages, took_s = under_load(here, plan, templates)
    found += passages
    tell(f"{told}: {len(passages)} studies in {took_s:.0f} s, {3600 * len(passages) / took_s:.0f} an hour")


if __name__ == "__main__":
    raise SystemExit(main())
