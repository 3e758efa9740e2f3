"""Own addresses are asked for before they are taken: the frames, and what follows from the answers."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import replace

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether

from vpp_operator.node.claims import AddressClaims
from vpp_operator.node.gtpu import Accepted
from vpp_operator.node.journal import NodeNetworkError
from vpp_operator.node.neighbours import announcement
from vpp_operator.node.probe import claimant, probe_frame
from vpp_operator.node.spec import IpAddress

MAC, OTHER = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
V4: IpAddress = ipaddress.ip_address("192.0.2.50")
V6: IpAddress = ipaddress.ip_address("2001:db8::50")


def test_a_probe_claims_nothing() -> None:
    arp = Ether(probe_frame(V4, MAC))
    assert (arp.dst, arp[ARP].op, arp[ARP].psrc, arp[ARP].pdst) == (
        "ff:ff:ff:ff:ff:ff",
        1,
        "0.0.0.0",
        str(V4),
    )
    solicitation = Ether(probe_frame(V6, MAC))
    ip = solicitation[IPv6]
    assert (solicitation.dst, ip.src, ip.dst, ip.hlim) == ("33:33:ff:00:00:50", "::", "ff02::1:ff00:50", 255)
    assert ip[ICMPv6ND_NS].tgt == str(V6)
    sent = ip[ICMPv6ND_NS].cksum
    del ip[ICMPv6ND_NS].cksum
    assert Ether(bytes(solicitation))[ICMPv6ND_NS].cksum == sent


@pytest.mark.parametrize("address", [V4, V6], ids=["IPv4", "IPv6"])
def test_who_claims_an_address(address: IpAddress) -> None:
    # An announcement, and another's probe at the same time; our own frames are no claims.
    for frame in (announcement(address, OTHER), probe_frame(address, OTHER)):
        assert claimant(frame, MAC) == (address, OTHER)
        assert claimant(frame, OTHER) is None
        for end in range(len(frame)):
            claimant(frame[:end], MAC)


def test_answers_and_what_is_none() -> None:
    other = Ether(src="02:00:00:00:00:02")
    reply = other / ARP(op=2, hwsrc="02:00:00:00:00:02", psrc=str(V4), pdst="0.0.0.0")
    assert claimant(bytes(reply), MAC) == (V4, OTHER)
    # Somebody asks for it, as any neighbour does.
    ask = other / ARP(op=1, psrc="192.0.2.1", pdst=str(V4))
    found = claimant(bytes(ask), MAC)
    assert found is not None and found[0] == ipaddress.ip_address("192.0.2.1")
    answer = other / IPv6(src="fe80::2", dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=str(V6))
    assert claimant(bytes(answer), MAC) == (V6, OTHER)
    # From beyond a router (hop limit), and a neighbour's ordinary question.
    routed = other / IPv6(src="fe80::2", dst="ff02::1", hlim=64) / ICMPv6ND_NA(tgt=str(V6))
    assert claimant(bytes(routed), MAC) is None
    question = other / IPv6(src="fe80::2", dst="ff02::1:ff00:50", hlim=255) / ICMPv6ND_NS(tgt=str(V6))
    assert claimant(bytes(question), MAC) is None


class Link:
    """A link on which some addresses are taken."""

    def __init__(self) -> None:
        self.now = 100.0
        self.taken: dict[IpAddress, bytes] = {}
        self.asked: list[IpAddress] = []
        self.broken = ""

    def ask(self, addresses: Collection[IpAddress], interface: str) -> dict[IpAddress, bytes]:
        if self.broken:
            raise NodeNetworkError(self.broken)
        self.asked += addresses
        self.now += 1.0
        return {a: mac for a, mac in self.taken.items() if a in addresses}


def test_an_address_is_taken_once_nobody_answered() -> None:
    link = Link()
    claims = AddressClaims(link.ask, lambda: link.now)
    wanted = Accepted(own=((V4, "eth0"), (V6, "eth0"), (ipaddress.ip_address("198.51.100.1"), "")))
    # What is not announced needs no question; what stands already neither.
    admitted, due = claims.admit(wanted, {V6})
    assert [str(a) for a, _ in admitted.own] == [str(V6), "198.51.100.1"] and due == 0
    assert [(f.subject, f.reason) for f in admitted.refused] == [(str(V4), "Programming")]
    claims.ask()
    assert link.asked == [V4]
    assert claims.admit(wanted, {V6}) == (wanted, None)
    # The answer does not hold for ever, nor for another interface, nor after it was let go.
    link.now += claims.FREE_SECONDS
    assert claims.admit(wanted, {V6})[1] == 0
    claims.ask()
    assert claims.admit(replace(wanted, own=((V4, "eth1"),)), ())[1] == 0
    claims.ask()
    claims.forget([V4])
    assert claims.admit(wanted, {V6})[1] == 0


def test_an_address_that_somebody_has_is_asked_for_again_later() -> None:
    link = Link()
    link.taken[V4] = OTHER
    claims = AddressClaims(link.ask, lambda: link.now)
    wanted = Accepted(own=((V4, "eth0"),))
    claims.admit(wanted, ())
    claims.ask()
    admitted, due = claims.admit(wanted, ())
    (finding,) = admitted.refused
    assert not admitted.own and due == claims.AGAIN_SECONDS
    assert finding.reason == "AddressInUse" and "02:00:00:00:00:02 on eth0" in finding.message
    claims.ask()
    assert len(link.asked) == 1, "nothing is open"
    link.now += claims.AGAIN_SECONDS
    assert claims.admit(wanted, ())[1] == 0
    link.taken.clear()
    claims.ask()
    assert claims.admit(wanted, ()) == (wanted, None)


def test_a_link_that_cannot_be_asked_lets_nothing_be_taken() -> None:
    link = Link()
    link.broken = "ask for addresses on eth0: no such device"
    claims = AddressClaims(link.ask, lambda: link.now)
    claims.admit(Accepted(own=((V4, "eth0"),)), ())
    claims.ask()
    admitted, due = claims.admit(Accepted(own=((V4, "eth0"),)), ())
    assert not admitted.own and due == claims.AGAIN_SECONDS
    assert "no such device" in admitted.refused[0].message
