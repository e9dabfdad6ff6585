"""Records the kernel's outcome of every sequence: python -m tests.fragments.record (as root).

A router namespace with iptables-legacy and one conntrack rule, so that it reassembles; fragments go in by a raw socket on
the client's link and come out on the server's.  A marker packet behind each sequence says that all its output is out.
"""

from __future__ import annotations

import datetime
import json
import lzma
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from netns import Lab
from tests.fragments import sequences as q

FILE = Path(__file__).parent / "kernel.json.xz"
RULES = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A FORWARD -m conntrack --ctstate NEW\nCOMMIT\n"
MARKER = 254                    # protocol of the marker packets
SYSCTLS = {"net.ipv4.ipfrag_high_thresh": 1 << 28, "net.netfilter.nf_conntrack_frag6_high_thresh": 1 << 28,
           "net.ipv4.ipfrag_max_dist": 0}
PACKET_IGNORE_OUTGOING, SOL_PACKET = 23, 263


def raw_socket(host, receive: bool) -> socket.socket:
    with host.entered():
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3 if receive else 0))
    made.bind(("eth0", 3 if receive else 0))
    if receive:
        made.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        made.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)            # SO_RCVBUFFORCE
        made.settimeout(5)
    return made


def load_rules(router) -> None:
    environment = {**os.environ, "XTABLES_LOCKFILE": tempfile.mktemp(prefix="fragments-lock")}
    for tool in ("iptables-legacy-restore", "ip6tables-legacy-restore"):
        done = router.run([shutil.which(tool, path="/usr/sbin:/sbin")], input=RULES, env=environment)
        if done.returncode:
            raise SystemExit(f"{tool}: {done.stderr}")


def marker(family: int, serial: int, src: bytes, dst: bytes) -> bytes:
    import struct
    data = struct.pack("!I", serial)
    if family == 6:
        return struct.pack("!IHBB16s16s", 6 << 28, 4, MARKER, 64, src, dst) + data
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 24, 0, 0x4000, 64, MARKER, 0, src, dst)
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:] + data


def outcomes(lab: Lab, family: int) -> list[str]:
    """The kernel's outcome of every sequence, in the order of sequences()."""
    client, router, server = lab.host("client"), lab.host("firewall"), lab.host("server")
    src = socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, str(client.address(family)))
    dst = socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, str(server.address(family)))
    mac = bytes.fromhex(router.interfaces["eth0"].mac.replace(":", ""))
    ether = mac + bytes.fromhex(client.interfaces["eth0"].mac.replace(":", "")) + (b"\x08\0" if family == 4 else b"\x86\xdd")
    make = q.packet4 if family == 4 else q.packet6
    out = []
    with raw_socket(client, False) as wire, raw_socket(server, True) as far:
        for number, sequence in enumerate(q.sequences()):
            for place, which in enumerate(sequence):
                wire.send(ether + make(number, place, q.FRAGMENTS[which], src, dst))
            wire.send(ether + marker(family, number, src, dst))
            out.append(collect(far, family, number))
    return out


def collect(far: socket.socket, family: int, number: int) -> str:
    """Everything that came out up to marker `number`."""
    seen = []
    while True:
        packet = far.recv(2048)[14:]
        if packet[:1] and packet[0] >> 4 == family and packet[9 if family == 4 else 6] == MARKER:
            if int.from_bytes(packet[-4:], "big") == number:
                return " ".join(seen)
        elif packet[:1] and packet[0] >> 4 == family and packet[9 if family == 4 else 6] in (q.PROTO, 44):
            seen.append(q.describe(family, packet))


def record() -> dict:
    with Lab() as lab:
        router = lab.host("firewall")
        load_rules(router)
        for name, value in SYSCTLS.items():
            router.set_sysctl(name, value)
        taken = {family: outcomes(lab, family) for family in (4, 6)}
    words = sorted({outcome for each in taken.values() for outcome in each})
    index = {word: n for n, word in enumerate(words)}
    return {"kernel": platform.release(), "date": datetime.date.today().isoformat(), "words": words,
            **{f"v{family}": [index[outcome] for outcome in each] for family, each in taken.items()}}


if __name__ == "__main__":
    if os.geteuid():
        sys.exit("needs root")
    result = record()
    FILE.write_bytes(lzma.compress(json.dumps(result, separators=(",", ":")).encode(), preset=9))
    print(f"{FILE}: {FILE.stat().st_size} bytes, {len(result['v4'])} sequences per family, kernel {result['kernel']}")
