"""Who may call."""

from __future__ import annotations

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from service.receive.policy import Peer, Policy, Refusal, contexts

POLICY = Policy(ae_title="FIRSTLOOK", peers=(
    Peer("CT1"), Peer("DX1", "10.1.2.0/24"), Peer("DX1", "192.0.2.7"), Peer("V6", "2001:db8::/32")))


@pytest.mark.parametrize(("called", "calling", "address", "expected"), [
    ("FIRSTLOOK", "CT1", "203.0.113.9", None),
    (" FIRSTLOOK ", " CT1 ", "203.0.113.9", None),
    ("FIRSTLOOK", "DX1", "10.1.2.99", None),
    ("FIRSTLOOK", "DX1", "192.0.2.7", None),
    ("FIRSTLOOK", "DX1", "::ffff:10.1.2.99", None),
    ("FIRSTLOOK", "V6", "2001:db8::1", None),
    ("FIRSTLOOK", "DX1", "10.1.3.1", Refusal.ADDRESS),
    ("FIRSTLOOK", "V6", "10.1.2.99", Refusal.ADDRESS),
    ("FIRSTLOOK", "CT2", "10.1.2.99", Refusal.CALLING_AE_TITLE),
    ("FIRSTLOOK", "ct1", "10.1.2.99", Refusal.CALLING_AE_TITLE),
    ("FIRSTLOOK", "", "10.1.2.99", Refusal.CALLING_AE_TITLE),
    ("OTHER", "CT1", "10.1.2.99", Refusal.CALLED_AE_TITLE),
    ("", "CT1", "10.1.2.99", Refusal.CALLED_AE_TITLE),
])
def test_only_listed_peers_from_their_networks_are_admitted(called, calling, address, expected):
    assert POLICY.refusal(called, calling, address) is expected


def test_without_peers_nobody_is_admitted_unless_anybody_is():
    assert Policy().refusal("FIRSTLOOK", "CT1", "127.0.0.1") is Refusal.CALLING_AE_TITLE
    assert Policy(any_calling_ae=True).refusal("FIRSTLOOK", "CT1", "127.0.0.1") is None
    assert Policy(any_calling_ae=True).refusal("OTHER", "CT1", "127.0.0.1") is Refusal.CALLED_AE_TITLE


@pytest.mark.parametrize("refusal", list(Refusal))
def test_every_refusal_has_an_answer(refusal: Refusal):
    assert len(refusal.answer) == 3


def test_no_context_offers_deflate_or_big_endian_and_all_offer_the_default():
    for context in contexts():
        assert DeflatedExplicitVRLittleEndian not in context.transfer_syntax
        assert ExplicitVRBigEndian not in context.transfer_syntax
        assert ImplicitVRLittleEndian in context.transfer_syntax
