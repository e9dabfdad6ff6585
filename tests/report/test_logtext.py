"""LOG text of packets made by scapy; the expected lines are written from the kernel's format (spec: iptables.md 4.10)."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6, IPv6ExtHdrFragment
from scapy.packet import Raw

from nfqfw.report.logtext import IP_OPTIONS, MAC_DECODE, TCP_OPTIONS, TCP_SEQUENCE, UID, Facts, log_line

V4 = dict(src="192.0.2.1", dst="198.51.100.7", id=4660, ttl=63)
BETWEEN = Facts("eth0", "eth1", source_mac=bytes.fromhex("020000000001"))
HEAD = "IN=eth0 OUT=eth1 MAC=00:00:00:00:00:00:02:00:00:00:00:01:08:00 SRC=192.0.2.1 DST=198.51.100.7 "
SYN = IP(**V4, flags="DF", tos=0x10) / TCP(sport=40000, dport=22, flags="S", seq=7, ack=0, window=64240, options=[("MSS", 1460)])

CASES = [
    ("tcp syn", SYN, 0, HEAD + "LEN=44 TOS=0x10 PREC=0x00 TTL=63 ID=4660 DF PROTO=TCP SPT=40000 DPT=22 WINDOW=64240 RES=0x00 SYN URGP=0"),
    ("tcp sequence", SYN, TCP_SEQUENCE, HEAD + "LEN=44 TOS=0x10 PREC=0x00 TTL=63 ID=4660 DF PROTO=TCP SPT=40000 DPT=22 SEQ=7 ACK=0 "
     "WINDOW=64240 RES=0x00 SYN URGP=0"),
    ("tcp options", SYN, TCP_OPTIONS, HEAD + "LEN=44 TOS=0x10 PREC=0x00 TTL=63 ID=4660 DF PROTO=TCP SPT=40000 DPT=22 WINDOW=64240 "
     "RES=0x00 SYN URGP=0 OPT (020405B4)"),
    ("tcp flags in the kernel's order", IP(**V4, tos=0xe0) / TCP(sport=1, dport=2, flags="FSRPAUEC", reserved=0, window=0), 0,
     HEAD + "LEN=40 TOS=0x00 PREC=0xE0 TTL=63 ID=4660 PROTO=TCP SPT=1 DPT=2 WINDOW=0 RES=0x00 CWR ECE URG ACK PSH RST SYN FIN URGP=0"),
    ("udp", IP(**V4) / UDP(sport=53, dport=5353) / Raw(b"abcd"), 0,
     HEAD + "LEN=32 TOS=0x00 PREC=0x00 TTL=63 ID=4660 PROTO=UDP SPT=53 DPT=5353 LEN=12"),
    ("later fragment", IP(**V4, flags="MF", frag=185, proto=17) / Raw(bytes(8)), 0,
     HEAD + "LEN=28 TOS=0x00 PREC=0x00 TTL=63 ID=4660 MF FRAG:185 PROTO=UDP"),
    ("echo", IP(**V4) / ICMP(type=8, id=77, seq=3) / Raw(b"x" * 8), 0,
     HEAD + "LEN=36 TOS=0x00 PREC=0x00 TTL=63 ID=4660 PROTO=ICMP TYPE=8 CODE=0 ID=77 SEQ=3"),
    ("port unreachable shows the packet it is about",
     IP(**V4) / ICMP(type=3, code=3) / IP(src="198.51.100.7", dst="192.0.2.1", id=9) / UDP(sport=1, dport=9, len=8), 0,
     HEAD + "LEN=56 TOS=0x00 PREC=0x00 TTL=63 ID=4660 PROTO=ICMP TYPE=3 CODE=3 "
     "[SRC=198.51.100.7 DST=192.0.2.1 LEN=28 TOS=0x00 PREC=0x00 TTL=64 ID=9 PROTO=UDP SPT=1 DPT=9 LEN=8 ]"),
    ("unknown protocol", IP(**V4, proto=200), 0, HEAD + "LEN=20 TOS=0x00 PREC=0x00 TTL=63 ID=4660 PROTO=200"),
    ("cut tcp header", IP(**V4, proto=6) / Raw(b"abcdef"), 0,
     HEAD + "LEN=26 TOS=0x00 PREC=0x00 TTL=63 ID=4660 PROTO=TCP INCOMPLETE [6 bytes]"),
]


@pytest.mark.parametrize("name, packet, flags, line", CASES, ids=[case[0] for case in CASES])
def test_ipv4_line(name, packet, flags, line):
    assert log_line(2, bytes(packet), BETWEEN, flags=flags) == line


def test_ip_options_are_hex():
    data = bytearray(bytes(IP(**V4, proto=200)))
    data[0], data[3] = 0x46, 24
    assert log_line(2, bytes(data) + b"\x94\x04\x00\x00", BETWEEN, flags=IP_OPTIONS).endswith("ID=4660 OPT (94040000) PROTO=200")


HEAD6 = "IN=eth0 OUT=eth1 MAC=00:00:00:00:00:00:02:00:00:00:00:01:86:dd SRC=2001:0db8:0000:0000:0000:0000:0000:0001 " \
        "DST=2001:0db8:0000:0000:0000:0000:0000:0002 "
V6 = dict(src="2001:db8::1", dst="2001:db8::2", hlim=63)
CASES6 = [
    ("tcp", IPv6(**V6, tc=2, fl=5) / TCP(sport=1, dport=80, flags="S", window=10),
     HEAD6 + "LEN=60 TC=2 HOPLIMIT=63 FLOWLBL=5 PROTO=TCP SPT=1 DPT=80 WINDOW=10 RES=0x00 SYN URGP=0"),
    ("echo", IPv6(**V6) / ICMPv6EchoRequest(id=5, seq=6), HEAD6 + "LEN=48 TC=0 HOPLIMIT=63 FLOWLBL=0 PROTO=ICMPv6 TYPE=128 CODE=0 ID=5 SEQ=6"),
    ("fragment", IPv6(**V6) / IPv6ExtHdrFragment(nh=17, offset=2, m=1, id=0x1234) / Raw(bytes(8)),
     HEAD6 + "LEN=56 TC=0 HOPLIMIT=63 FLOWLBL=0 FRAG:16 INCOMPLETE ID:00001234 PROTO=UDP"),
    ("packet too big", IPv6(**V6) / ICMPv6PacketTooBig(mtu=1400) / IPv6(src="2001:db8::2", dst="2001:db8::1", nh=200, plen=0),
     HEAD6 + "LEN=88 TC=0 HOPLIMIT=63 FLOWLBL=0 PROTO=ICMPv6 TYPE=2 CODE=0 [SRC=2001:0db8:0000:0000:0000:0000:0000:0002 "
     "DST=2001:0db8:0000:0000:0000:0000:0000:0001 LEN=40 TC=0 HOPLIMIT=64 FLOWLBL=0 PROTO=200 ] MTU=1400"),
]


@pytest.mark.parametrize("name, packet, line", CASES6, ids=[case[0] for case in CASES6])
def test_ipv6_line(name, packet, line):
    assert log_line(10, bytes(packet), BETWEEN) == line


def test_locally_generated_has_owner_and_mark_and_no_mac():
    line = log_line(2, bytes(IP(**V4, proto=200)), Facts("", "eth1", mark=0x2a, uid=1000, gid=100), prefix="out: ", flags=UID)
    assert line == "out: IN= OUT=eth1 SRC=192.0.2.1 DST=198.51.100.7 LEN=20 TOS=0x00 PREC=0x00 TTL=63 ID=4660 PROTO=200 UID=1000 GID=100 MARK=0x2a"


def test_the_link_layer_header_decoded():
    assert log_line(10, bytes(CASES6[1][1]), BETWEEN, flags=MAC_DECODE).startswith(
        "IN=eth0 OUT=eth1 MACSRC=02:00:00:00:00:01 MACDST=00:00:00:00:00:00 MACPROTO=86dd SRC=2001:")


def test_a_bridge_port_is_named():
    line = log_line(2, bytes(IP(**V4, proto=200)), Facts("br0", "br0", "veth1", "veth2"))
    assert line.startswith("IN=br0 OUT=br0 PHYSIN=veth1 PHYSOUT=veth2 MAC= SRC=192.0.2.1 ")


def test_a_prefix_cannot_forge_a_line():
    line = log_line(2, bytes(IP(**V4)), Facts(), prefix="a\nkernel: \x1b[2J")
    assert line.startswith("a\\x0akernel: \\x1b[2J") and "\n" not in line and "\x1b" not in line


@pytest.mark.parametrize("length", range(0, 90))
def test_any_cut_of_a_packet_prints(length):
    whole = bytes(CASES[7][1])
    assert log_line(2, whole[:length], BETWEEN).startswith("IN=eth0")
    assert log_line(10, bytes(CASES6[3][1])[:length], BETWEEN, flags=15).startswith("IN=eth0")
