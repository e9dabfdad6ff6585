"""The offline kernel: which hooks a packet crosses and with what; against the real kernel's queue where root allows."""

import os
import struct

import pytest

from nfqfw.host import Host
from nfqfw.queue._callback import Callback
from nfqfw.queue._feed import Feed

from nfqfw.queue.capture import Captured
from nfqfw.queue.offline import HOOK_NAMES, OfflineQueue, Router, aged, pump

DROP, ACCEPT, HELD = 0, 1, 2
PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
CLIENT, ROUTER_IN, ROUTER_OUT, SERVER = (bytes([10, 0, n, k]) for n, k in ((1, 2), (1, 1), (2, 1), (2, 2)))


def checksum(header: bytes) -> int:
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source, destination, payload=b"data", ttl=64, id=7):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), id, 0, ttl, 253, 0, source, destination)
    return head[:10] + checksum(head).to_bytes(2) + head[12:] + payload


def captured(*packets, interface=""):
    return [Captured(i + 1, 1000 + i, data, len(data), interface, b"") for i, data in enumerate(packets)]


@pytest.fixture
def host():
    from nfqfw.host import Host

    return Host.offline({"eth0": ["10.0.1.1/24", "fd00:1::1/64"], "eth1": ["10.0.2.1/24", "fd00:2::1/64"]},
                        ["192.0.2.0/24 via 10.0.2.9"])


def walk(packets, host=None, decide=None, hooks=HOOK_NAMES, idle=None, interfaces=(0, 0)):
    """Run packets; returns (crossings as (hook, ifin, ifout, mark, ttl), ends, queue)."""
    seen, ends = [], []

    def judge(view):
        seen.append((view.hook, view.ifin, view.ifout, view.mark, (view.data[8:9] or b"?")[0]))
        return decide(view) if decide else ACCEPT

    engine = Callback(judge, idle)
    queue = OfflineQueue(Feed(engine), Router(host, interfaces), hooks, on_end=lambda packet, how: ends.append(how))
    pump(queue, packets)
    assert engine.error is None
    return seen, ends, queue


@pytest.mark.parametrize("source, destination, crossings, end", [
    (CLIENT, SERVER, [(PREROUTING, 2, 0, 0, 64), (FORWARD, 2, 3, 0, 63), (POSTROUTING, 2, 3, 0, 63)], "sent"),
    (CLIENT, ROUTER_IN, [(PREROUTING, 2, 0, 0, 64), (INPUT, 2, 0, 0, 64)], "delivered"),
    (CLIENT, ROUTER_OUT, [(PREROUTING, 2, 0, 0, 64), (INPUT, 2, 0, 0, 64)], "delivered"),
    (ROUTER_IN, CLIENT, [(OUTPUT, 0, 2, 0, 64), (POSTROUTING, 0, 2, 0, 64)], "sent"),
    (SERVER, bytes([192, 0, 2, 9]), [(PREROUTING, 3, 0, 0, 64), (FORWARD, 3, 3, 0, 63), (POSTROUTING, 3, 3, 0, 63)], "sent"),
    (CLIENT, bytes([10, 0, 1, 255]), [(PREROUTING, 2, 0, 0, 64), (INPUT, 2, 0, 0, 64)], "delivered"),
    (CLIENT, bytes([224, 0, 0, 1]), [(PREROUTING, 2, 0, 0, 64), (INPUT, 2, 0, 0, 64)], "delivered"),
    (CLIENT, bytes([203, 0, 113, 1]), [(PREROUTING, 2, 0, 0, 64)], "no route"),
])
def test_paths(host, source, destination, crossings, end):
    seen, ends, _ = walk(captured(ipv4(source, destination)), host)
    assert (seen, ends) == (crossings, [end])


def test_without_a_host_everything_is_forwarded():
    seen, ends, _ = walk(captured(ipv4(CLIENT, SERVER)), interfaces=(5, 6))
    assert seen == [(PREROUTING, 5, 0, 0, 64), (FORWARD, 5, 6, 0, 63), (POSTROUTING, 5, 6, 0, 63)] and ends == ["sent"]


def test_only_the_given_hooks_are_shown(host):
    seen, ends, _ = walk(captured(ipv4(CLIENT, SERVER)), host, hooks=["FORWARD", "INPUT", "OUTPUT"])
    assert [hook for hook, *_ in seen] == [FORWARD] and ends == ["sent"]


@pytest.mark.parametrize("ttl, end", [(0, "ttl exceeded"), (1, "ttl exceeded"), (2, "sent")])
def test_ttl(host, ttl, end):
    assert walk(captured(ipv4(CLIENT, SERVER, ttl=ttl)), host)[1] == [end]


@pytest.mark.parametrize("id", range(0, 65536, 257))
def test_ageing_keeps_the_header_checksum_right(id):
    out = aged(ipv4(CLIENT, SERVER, ttl=9, id=id))
    assert out[8] == 8 and checksum(out[:20]) in (0, 0xFFFF)        # a sum over a right header is 0


def test_drop_ends_marks_and_bytes_travel(host):
    def decide(view):
        if view.hook == PREROUTING:
            view.mark = 9
            view.data = ipv4(CLIENT, ROUTER_IN)                     # as DNAT to the router would
        return DROP if view.hook == INPUT else ACCEPT

    seen, ends, queue = walk(captured(ipv4(CLIENT, SERVER)), host, decide)
    assert seen == [(PREROUTING, 2, 0, 0, 64), (INPUT, 2, 0, 9, 64)] and ends == ["drop"]
    assert queue.verdicts == {"accept": 1, "drop": 1}


def test_held_packets_go_on_when_released():
    held = []

    def decide(view):
        if view.hook != FORWARD or len(held) == 2:
            return ACCEPT
        held.append(view.id)
        if len(held) < 2:
            return HELD
        engine.release(held[0], ACCEPT, at=0)
        return ACCEPT

    order = []
    engine = Callback(decide)
    pump(OfflineQueue(Feed(engine), on_end=lambda packet, how: order.append((packet.number, how))),
         captured(ipv4(CLIENT, SERVER), ipv4(CLIENT, SERVER)))
    assert engine.error is None and order == [(1, "sent"), (2, "sent")]


def test_a_reply_crosses_output(host):
    answer = ipv4(ROUTER_IN, CLIENT, b"no")
    seen = []

    def decide(view):
        seen.append((view.hook, view.data[12:20]))
        if view.hook == FORWARD:
            engine.reply(2, answer)
            return DROP
        return ACCEPT

    engine = Callback(decide)
    queue = OfflineQueue(Feed(engine), Router(host))
    pump(queue, captured(ipv4(CLIENT, SERVER)))
    assert seen[2:] == [(OUTPUT, answer[12:20]), (POSTROUTING, answer[12:20])]
    assert queue.ends == {"drop": 1, "sent": 1} and queue.replies == 1


def test_a_cut_packet_that_was_changed_is_dropped():
    def change(view):
        view.data = view.data
        return ACCEPT

    reasons = []
    queue = OfflineQueue(Feed(Callback(change)), hooks=["FORWARD"],
                         on_crossing=lambda crossing: reasons.append(crossing.decision.reason))
    packet = ipv4(CLIENT, SERVER, bytes(100))
    pump(queue, [Captured(1, 0, packet[:60], len(packet), "", b"")])
    assert reasons == ["truncated"] and queue.ends == {"drop": 1}


def test_garbage_does_not_stop_the_pump():
    packets = [b"", b"\x45", bytes(20), b"\x60" * 39, b"\x45" * 19, os.urandom(60)]
    queue = walk(captured(*packets, ipv4(CLIENT, SERVER)))[2]
    assert sum(queue.ends.values()) == 7


# ---- against the kernel -----------------------------------------------------------------------------------------------

@pytest.mark.netns
def test_crossings_equal_those_of_the_kernel(network):
    """Forwarded, delivered and sent packets: hook, interfaces, mark and bytes at every crossing."""
    from nfqfw.host import Host

    chains = {"PREROUTING": "mangle", "INPUT": "mangle", "FORWARD": "mangle", "OUTPUT": "mangle", "POSTROUTING": "mangle"}
    for chain, table in chains.items():
        network.divert(chain, table=table)
    real = []

    def look(view):
        real.append((view.hook, view.ifin, view.ifout, view.mark, view.data))
        return ACCEPT

    with network.running(Callback(look)), network.firewall.entered():
        facts = Host.live()
        facts.close()
        for host, target in ((network.client, network.server.address()), (network.client, network.firewall.address()),
                             (network.client, network.server.address(6)), (network.server, network.client.address(6))):
            assert host.run(["ping", "-c", "2", "-i", "0.05", target]).returncode == 0
    pings = [entry for entry in real if is_ping(entry[4])]
    entries = [Captured(i, i, data, len(data), facts.name(ifin) or "", b"") for i, (hook, ifin, _, _, data) in enumerate(pings)
               if hook in (PREROUTING, OUTPUT)]
    offline = []

    def look_again(view):
        offline.append((view.hook, view.ifin, view.ifout, view.mark, view.data))
        return ACCEPT

    pump(OfflineQueue(Feed(Callback(look_again)), Router(facts)), entries)
    assert len(pings) >= 2 * (3 + 3) * 3 + 2 * (2 + 2)
    assert offline == pings


def is_ping(data: bytes) -> bool:
    return data[0] >> 4 == 4 and data[9] == 1 or data[0] >> 4 == 6 and data[6] == 58 and data[40] in (128, 129)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_fragments_go_on_when_their_datagram_is_whole(family, order):
    """The real engine: the piece that completes the datagram is released by its own batch."""
    from scapy.layers.inet import IP, UDP, fragment
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
    from scapy.packet import Raw

    from nfqfw._conntrack import ConntrackTable
    from nfqfw._engine import Engine, LoadedProgram
    from nfqfw.compile import compile_rulesets
    from nfqfw.rules import load
    rules = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -p udp -m udp --dport 53 -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n"
    host = Host.offline({"eth0": ["10.0.1.1/24", "2001:db8:1::1/64"], "eth1": ["10.0.2.1/24", "2001:db8:2::1/64"]})
    engine = Engine(ConntrackTable(64, 256), host.block)
    engine.load(LoadedProgram(compile_rulesets([load(rules, "r", number) for number in (2, 10)])))
    datagram = UDP(sport=7, dport=53) / Raw(b"x" * 2992)
    pieces = (fragment(IP(src="10.0.1.2", dst="10.0.2.2", id=5) / datagram, 1000) if family == 4
              else fragment6(IPv6(src="2001:db8:1::2", dst="2001:db8:2::2") / IPv6ExtHdrFragment(id=5) / datagram, 1048))
    assert len(pieces) == 3
    queue = OfflineQueue(Feed(engine), Router(host))
    pump(queue, [Captured(n, n, bytes(pieces[at]), len(pieces[at]), "eth0", b"") for n, at in enumerate(order, 1)])
    assert queue.ends == {"sent": 3}
