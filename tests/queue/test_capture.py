"""Capture files: formats written here byte by byte after the drafts, and by tcpdump and scapy; cut and damaged ones."""

import os
import struct

import pytest

from nfqfw.queue.capture import Capture, CaptureError

PAYLOAD = b"capture"
IP4 = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(PAYLOAD), 1, 0, 64, 253, 0, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])) + PAYLOAD
IP6 = struct.pack("!IHBB16s16s", 6 << 28, len(PAYLOAD), 253, 64, b"\xfd" + bytes(15), b"\xfd" + bytes(14) + b"\1") + PAYLOAD
MAC = bytes.fromhex("0200000000aa")
SECONDS, FRACTION = 1_700_000_000, 123_456


def ethernet(packet, *tags):
    kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
    return b"\xff" * 6 + MAC + b"".join(tags) + kind + packet


def pcap(frames, link=1, order="<", magic=0xA1B2C3D4, original=None):
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for frame in frames:
        out += struct.pack(order + "IIII", SECONDS, FRACTION, len(frame), original or len(frame)) + frame
    return out


def block(order, kind, body):
    body += b"\0" * (-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def option(order, code, value):
    return struct.pack(order + "HH", code, len(value)) + value + b"\0" * (-len(value) % 4)


def pcapng(frame, order="<", resolution=b"", link=1, name=b"eth7"):
    options = option(order, 2, name) + (option(order, 9, resolution) if resolution else b"") + option(order, 0, b"")
    units = {b"": 10**6, b"\x09": 10**9, b"\x8a": 2**10}[resolution]
    stamp = SECONDS * units + FRACTION * units // 10**6
    return (block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
            + block(order, 1, struct.pack(order + "HHI", link, 0, 65535) + options)
            + block(order, 6, struct.pack(order + "IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, len(frame), len(frame)) + frame))


def read(tmp_path, content):
    path = tmp_path / "file.pcap"
    path.write_bytes(content)
    with Capture(path) as capture:
        return list(capture), capture


@pytest.mark.parametrize("packet", [IP4, IP6], ids=["v4", "v6"])
@pytest.mark.parametrize("link, head, address", [
    (1, b"\xff" * 6 + MAC, MAC), (101, None, b""), (12, None, b""), (14, None, b""), (228, None, b""), (229, None, b""),
    (0, struct.pack("<I", 2), b""), (108, struct.pack(">I", 24), b""),
    (113, struct.pack("!HHH", 0, 1, 6) + MAC + b"\0\0", MAC),
    (276, None, MAC),
], ids=lambda value: str(value)[:12])
def test_link_types(tmp_path, packet, link, head, address):
    kind = b"\x08\x00" if packet is IP4 else b"\x86\xdd"
    if link == 276:
        frame = kind + b"\0\0" + struct.pack("!IHBB", 3, 1, 0, 6) + MAC + b"\0\0" + packet
    else:
        frame = (head or b"") + (kind if link in (1, 113) else b"") + packet
    (got,), _ = read(tmp_path, pcap([frame], link))
    assert (got.data, got.total, got.hwaddr) == (packet, len(packet), address)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("magic, unit", [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_pcap_byte_orders_and_time_units(tmp_path, order, magic, unit):
    (got,), _ = read(tmp_path, pcap([ethernet(IP4)], order=order, magic=magic))
    assert got.time == SECONDS * 10**9 + FRACTION * unit and got.number == 1


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("resolution", [b"", b"\x09", b"\x8a"])
def test_pcapng_byte_orders_and_resolutions(tmp_path, order, resolution):
    (got,), _ = read(tmp_path, pcapng(ethernet(IP4), order, resolution))
    assert (got.data, got.interface) == (IP4, "eth7")
    assert abs(got.time - (SECONDS * 10**9 + FRACTION * 1000)) < (10**6 if resolution == b"\x8a" else 1)


def test_pcapng_sections_and_unknown_blocks(tmp_path):
    extra = block("<", 5, bytes(20)) + block("<", 0x0BAD, b"any")
    packets, _ = read(tmp_path, pcapng(ethernet(IP4)) + extra + pcapng(ethernet(IP6), ">", name=b"b"))
    assert [(p.number, p.data, p.interface) for p in packets] == [(1, IP4, "eth7"), (2, IP6, "b")]


def test_vlan_tags_are_walked(tmp_path):
    frames = [ethernet(IP4, b"\x81\x00\x00\x05"), ethernet(IP6, b"\x88\xa8\x00\x07", b"\x81\x00\x00\x05")]
    packets, _ = read(tmp_path, pcap(frames))
    assert [p.data for p in packets] == [IP4, IP6]


def test_padding_goes_and_what_was_cut_stays_known(tmp_path):
    (padded,), _ = read(tmp_path, pcap([ethernet(IP4) + bytes(11)]))
    assert (padded.data, padded.total) == (IP4, len(IP4))
    (cut,), _ = read(tmp_path, pcap([ethernet(IP4)[:40]], original=14 + len(IP4)))
    assert (cut.data, cut.total) == (IP4[:26], len(IP4))


def test_frames_without_ip_are_skipped_and_counted(tmp_path):
    arp = b"\xff" * 6 + MAC + b"\x08\x06" + bytes(28)
    packets, capture = read(tmp_path, pcap([arp, b"", b"\0" * 13, ethernet(IP4)]))
    assert [p.number for p in packets] == [4] and capture.skipped == 3


@pytest.mark.parametrize("content, message", [
    (b"", "not a pcap"), (b"#!/bin/sh\n", "not a pcap"), (pcap([], link=147), None),
    (pcap([ethernet(IP4)], link=147), "link type 147"), (pcap([ethernet(IP4)])[:30], "ends inside a record header"),
    (pcap([ethernet(IP4)])[:-1], "ends inside a packet after frame 0"), (pcap([])[:20], "ends inside its header"),
    (pcap([ethernet(IP4)])[:24] + struct.pack("<IIII", 0, 0, 1 << 30, 60), "damaged"),
    (pcapng(ethernet(IP4))[:-1], "ends inside a block"), (pcapng(ethernet(IP4))[:10], "ends inside"),
    (pcapng(ethernet(IP4))[:28] + pcapng(ethernet(IP4))[28 + 32:], "frame 1 is damaged"),       # no interface block
], ids=range(11))
def test_errors_are_clear_and_name_the_file(tmp_path, content, message):
    if message is None:
        assert read(tmp_path, content)[0] == []
        return
    with pytest.raises(CaptureError, match=message) as error:
        read(tmp_path, content)
    assert "file.pcap" in error.value.message


def test_everything_before_a_cut_is_given(tmp_path):
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap([ethernet(IP4)] * 3)[:-5])
    got = []
    with pytest.raises(CaptureError, match="after frame 2"), Capture(path) as capture:
        for packet in capture:
            got.append(packet.number)
    assert got == [1, 2]


def test_a_missing_file():
    with pytest.raises(CaptureError, match="No such file"):
        Capture("/nonexistent/x.pcap")


@pytest.mark.parametrize("cut", range(0, 200, 3))
def test_any_prefix_reads_or_raises_capture_error(tmp_path, cut):
    for content in (pcap([ethernet(IP4)] * 2), pcapng(ethernet(IP6))):
        try:
            read(tmp_path, content[:cut])
        except CaptureError:
            pass


def test_random_damage_reads_or_raises_capture_error(tmp_path):
    state = 12345
    for content in (pcap([ethernet(IP4)] * 3), pcapng(ethernet(IP6)), pcapng(ethernet(IP4), ">")):
        for _ in range(400):
            damaged = bytearray(content)
            for _ in range(3):
                state = (state * 1103515245 + 12345) & 0x7FFFFFFF
                damaged[4 + state % (len(damaged) - 4)] = state >> 16 & 255
            try:
                read(tmp_path, bytes(damaged))
            except CaptureError:
                pass


def test_a_file_of_scapy(tmp_path):
    scapy = pytest.importorskip("scapy.all")
    path = str(tmp_path / "scapy.pcap")
    sent = [scapy.Ether(src="02:00:00:00:00:01") / scapy.IP(dst="192.0.2.1") / scapy.UDP(dport=53) / (b"x" * 3),
            scapy.Ether() / scapy.ARP(), scapy.Ether() / scapy.IPv6(dst="2001:db8::1") / scapy.TCP(dport=80)]
    scapy.wrpcap(path, sent)
    with Capture(path) as capture:
        got = list(capture)
    assert [p.data for p in got] == [bytes(sent[0][scapy.IP]), bytes(sent[2][scapy.IPv6])]
    assert capture.skipped == 1 and os.path.getsize(path) > 0
