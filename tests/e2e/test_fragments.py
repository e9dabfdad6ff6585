"""Datagrams in fragments through filter rules on ports and through NAT: what leaves the firewall equals what leaves the kernel's.

Fragments of UDP datagrams up to 60,000 bytes enter by a raw socket on the client's link, in order, reversed, shuffled, and
with one lost; everything that reaches the server's link is compared, byte for byte (addresses and checksums included).
"""

import os
import random
import socket
import struct

import pytest

from netns import DEFAULT, Lab
from tests.e2e.firewalls import make

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

FILTER = """
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -p udp -m udp --dport 53 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
COMMIT
"""
NAT = """
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -i eth0 -p udp -m udp --dport 5353 -j DNAT --to-destination {server}:53
-A POSTROUTING -o eth1 -j SNAT --to-source {other}
COMMIT
"""
OTHER = {4: "10.0.2.9", 6: "fd00:2::9"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
SIZES = (1600, 8_192 + 128, 32_768 + 128, 60_000)      # NFS over UDP sends its blocks of 8 and 32 KiB behind an RPC header
ORDERS = ("in order", "reversed", "shuffled", "one lost")
PACKET_IGNORE_OUTGOING, SOL_PACKET = 23, 263
MARKER = 254                    # protocol of the packet behind each datagram: what it caused is out when this one arrives


def summed(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[:len(data) & ~1])) + (data[-1] << 8 if len(data) & 1 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def udp(src: bytes, dst: bytes, dport: int, size: int) -> bytes:
    data = bytes(i * 7 % 251 for i in range(size))
    length = size + 8
    pseudo = src + dst + struct.pack("!IHBB" if len(src) == 16 else "!BBH", *((length, 0, 0, 17) if len(src) == 16 else (0, 17, length)))
    head = struct.pack("!HHHH", 40000, dport, length, 0)
    check = ~summed(pseudo + head + data) & 0xFFFF
    return head[:6] + struct.pack("!H", check or 0xFFFF) + data


def ip(src: bytes, dst: bytes, ident: int, proto: int, offset: int, more: bool, part: bytes) -> bytes:
    """A whole packet (proto MARKER) or a fragment."""
    if len(src) == 16:
        if proto == MARKER:
            return struct.pack("!IHBB16s16s", 6 << 28, len(part), proto, 64, src, dst) + part
        return (struct.pack("!IHBB16s16s", 6 << 28, 8 + len(part), 44, 64, src, dst) + struct.pack("!BBHI", proto, 0, offset | more, ident)
                + part)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(part), ident, (more << 13) | offset >> 3, 64, proto, 0, src, dst)
    return head[:10] + struct.pack("!H", ~summed(head) & 0xFFFF) + head[12:] + part


def fragments(src: bytes, dst: bytes, ident: int, segment: bytes) -> list[bytes]:
    step = 1448 if len(src) == 16 else 1480
    return [ip(src, dst, ident, 17, at, at + step < len(segment), segment[at:at + step]) for at in range(0, len(segment), step)]


def ordered(pieces: list[bytes], order: str, seed: int) -> list[bytes]:
    if order == "reversed":
        return pieces[::-1]
    if order == "shuffled":
        return random.Random(seed).sample(pieces, len(pieces))
    return pieces[:-1] if order == "one lost" else pieces


def through(lab, family: int, dport: int) -> list[tuple]:
    """(size, order, packets that reached the server's link) of every datagram."""
    src, dst = (socket.inet_pton(FAMILIES[family], lab.host(name).address(family)) for name in ("client", "server"))
    router, client = lab.firewall.interfaces["eth0"].mac, lab.client.interfaces["eth0"].mac
    ether = bytes.fromhex((router + client).replace(":", "")) + (b"\x86\xdd" if family == 6 else b"\x08\0")
    found = []
    with lab.client.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire, lab.server.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as far:
        wire.bind(("eth0", 0))
        far.bind(("eth0", 3))
        far.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        far.settimeout(5)
        ident = 100
        for size in SIZES:
            for order in ORDERS:
                ident += 1
                for piece in ordered(fragments(src, dst, ident, udp(src, dst, dport, size)), order, ident):
                    wire.send(ether + piece)
                wire.send(ether + ip(src, dst, ident, MARKER, 0, False, struct.pack("!I", ident)))
                found.append((size, order, until_marker(far, family, ident)))
    return found


def until_marker(far, family: int, ident: int) -> list[bytes]:
    seen = []
    while True:
        packet = far.recv(65536)[14:]
        if packet[0] >> 4 != family:
            continue
        proto = packet[9] if family == 4 else packet[6]
        if proto == MARKER and packet[-4:] == struct.pack("!I", ident):
            return seen
        if proto in (17, 44):
            seen.append(without_id(packet))


def without_id(packet: bytes) -> bytes:
    """The kernel gives the IPv6 fragments of a datagram it has reassembled a new random identification; we keep the sender's."""
    return packet[:44] + b"\0\0\0\0" + packet[48:] if packet[0] >> 4 == 6 and packet[6] == 44 else packet


def rules(family: int, nat: bool) -> str:
    text = FILTER.replace("COMMIT", f"-A FORWARD -p {MARKER} -j ACCEPT\nCOMMIT")
    if not nat:
        return text
    server = "[fd00:2::2]" if family == 6 else "10.0.2.2"
    return NAT.format(server=server, other=OTHER[family]) + text


@pytest.mark.parametrize("nat", [False, True], ids=["filter", "nat"])
def test_what_leaves_equals_the_kernels(nat, tmp_path):
    taken = {}
    for kind in ("kernel", "nfnetlink", "exact"):
        (tmp_path / kind).mkdir()
        with Lab(DEFAULT) as lab, make(kind, lab.firewall, tmp_path / kind) as firewall:
            firewall.load(rules(4, nat), rules(6, nat))
            taken[kind] = {family: through(lab, family, 5353 if nat else 53) for family in (4, 6)}
    for family in (4, 6):
        for (size, order, kernel), ours, exact in zip(*(taken[kind][family] for kind in ("kernel", "nfnetlink", "exact")), strict=True):
            where = f"IPv{family}, {size} bytes, {order}"
            assert bool(kernel) == (order != "one lost"), f"{where}: the kernel itself let {len(kernel)} out"
            assert [len(p) for p in kernel] == [len(p) for p in ours[2]] == [len(p) for p in exact[2]], where
            assert kernel == ours[2], where
            assert kernel == exact[2], where
