"""Who gets in at all: counted by all, by address and by AE title; and what is written down of floods."""

from __future__ import annotations

import pytest

from service.receive.door import Door, Place, Seldom, Shut
from service.receive.policy import Peer, Policy, Refusal
from service.tls.handshake import Shown


def entered(door: Door, address: str = "10.0.0.1") -> Place:
    place = door.enter(address)
    assert isinstance(place, Place), place
    return place


def test_for_one_more_that_waits_the_one_that_waits_longest_has_to_go() -> None:
    door, gone = Door(Policy(max_waiting=3, max_waiting_per_address=2)), []
    places = {}
    for name, address in (("a", "10.0.0.1"), ("b", "10.0.0.1"), ("c", "10.0.0.1"), ("d", "10.0.0.2"), ("e", "10.0.0.3"),
                          ("f", "10.0.0.3")):
        places[name] = door.enter(address, lambda because, name=name: gone.append((name, because)))
    assert gone == [("a", Shut.TOO_MANY_WAIT_OF_ADDRESS), ("b", Shut.TOO_MANY_WAIT), ("c", Shut.TOO_MANY_WAIT)]
    assert places["a"].associate("CT1") is Refusal.TOO_MANY, "its connection is closed already"
    for name in "ab":
        places[name].leave()
    assert places["f"].associate("CT1") is None
    door.enter("10.0.0.9", lambda because: gone.append(("g", because)))
    assert len(gone) == 3, "an association waits no longer"


def test_an_association_waits_no_longer() -> None:
    door = Door(Policy(max_waiting=1))
    for _ in range(5):
        assert entered(door).associate("CT1") is None


@pytest.mark.parametrize(("limits", "expected"), [
    ({"max_associations": 2}, Refusal.TOO_MANY), ({"max_associations_per_ae": 2}, Refusal.TOO_MANY_OF_AE),
    ({"max_associations_per_address": 2}, Refusal.TOO_MANY_OF_ADDRESS)])
def test_associations_have_their_limits_and_give_their_places_back(limits: dict[str, int], expected: Refusal) -> None:
    door = Door(Policy(**limits))
    first, second, third = entered(door), entered(door), entered(door)
    assert (first.associate("CT1"), second.associate(" CT1 ")) == (None, None)
    assert third.associate("CT1") is expected
    assert expected.answer == (2, 3, 2)
    other = entered(door, "10.0.0.2").associate("CT2")
    assert (other is None) is (expected is not Refusal.TOO_MANY)
    third.leave()
    second.leave()
    if other is None:
        assert entered(door).associate("CT1") is None


def test_nothing_is_remembered_of_who_has_left() -> None:
    door = Door(Policy())
    for n in range(100):
        place = entered(door, f"10.0.0.{n}")
        if n % 2:
            place.associate(f"CT{n}")
        place.leave()
    assert not door._waiting and not door._by_address and not door._by_calling


@pytest.mark.parametrize(("address", "welcome"), [
    ("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("10.1.3.1", False), ("2001:db8::1", True), ("fe80::1%eth0", False)])
def test_an_address_of_no_peer_is_closed_where_every_peer_has_one(address: str, welcome: bool) -> None:
    peers = (Peer("CT1", "10.1.2.0/24"), Peer("CT2", "2001:db8::/32"))
    assert (Door(Policy(peers=peers)).enter(address) is Shut.UNLISTED_ADDRESS) is not welcome
    assert isinstance(Door(Policy(peers=peers, close_unlisted_addresses=False)).enter(address), Place)
    assert isinstance(Door(Policy(peers=(*peers, Peer("CT3")))).enter(address), Place)
    assert isinstance(Door(Policy(peers=peers, any_calling_ae=True)).enter(address), Place)


def test_a_policy_without_peers_closes_no_address() -> None:
    assert isinstance(Door(Policy()).enter("192.0.2.1"), Place)


SHOWN = Shown("ab" * 32, frozenset(("ct1.example",)))


@pytest.mark.parametrize(("peer", "shown", "expected"), [
    (Peer("CT1"), None, None), (Peer("CT1"), SHOWN, None),
    (Peer("CT1", fingerprint="ab" * 32), SHOWN, None), (Peer("CT1", name="ct1.example"), SHOWN, None),
    (Peer("CT1", fingerprint="ab" * 32, name="ct1.example"), SHOWN, None),
    (Peer("CT1", fingerprint="ab" * 32), None, Refusal.CERTIFICATE),
    (Peer("CT1", name="ct1.example"), None, Refusal.CERTIFICATE),
    (Peer("CT1", fingerprint="cd" * 32), SHOWN, Refusal.CERTIFICATE),
    (Peer("CT1", name="example"), SHOWN, Refusal.CERTIFICATE),
    (Peer("CT1", fingerprint="ab" * 32, name="ct2.example"), SHOWN, Refusal.CERTIFICATE),
    (Peer("CT1", "192.0.2.0/24", fingerprint="ab" * 32), SHOWN, Refusal.ADDRESS),
])
def test_a_peer_is_known_by_all_that_it_is_bound_to(peer: Peer, shown: Shown | None, expected: Refusal | None) -> None:
    assert Policy(peers=(peer,)).refusal("FIRSTLOOK", "CT1", "10.0.0.1", shown) is expected


def test_address_and_certificate_must_be_of_the_same_entry() -> None:
    policy = Policy(peers=(Peer("CT1", "10.0.0.1", fingerprint="cd" * 32), Peer("CT1", "10.0.0.2", fingerprint="ab" * 32)))
    assert policy.refusal("FIRSTLOOK", "CT1", "10.0.0.2", SHOWN) is None
    assert policy.refusal("FIRSTLOOK", "CT1", "10.0.0.1", SHOWN) is Refusal.CERTIFICATE


def test_of_a_flood_one_line_a_second_is_written_and_the_rest_counted() -> None:
    clock = iter([0.0, 0.1, 0.9, 1.1, 1.2, 5.0, 5.0])
    seldom = Seldom(lambda: next(clock))
    assert [seldom.due("a") for _ in range(6)] == [0, None, None, 2, None, 1]
    assert seldom.due("b") == 0
