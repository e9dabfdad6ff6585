"""Reading queue messages, byte by byte after linux/netlink.h and linux/netfilter/nfnetlink_queue.h; no kernel, no root.

Fuzz invariant: whatever a datagram holds, every packet of it is judged exactly once or counted as malformed, and nothing is
read or written outside the datagram and the room behind it (the sanitizer build says so).
"""

import random
import re
import struct
from pathlib import Path

import pytest

from nfqfw import limits
from nfqfw.queue._callback import Callback
from nfqfw.queue._nfnetlink import Queue

PACKET, ERROR = 0x0300, 2
HEADER, MARK, INDEV, OUTDEV, HWADDR, PAYLOAD, CAP_LEN, SKB_INFO, UID, GID, PRIORITY = 1, 3, 5, 6, 9, 10, 13, 14, 16, 17, 21
ACCEPT = 1
BUFFER = 65536 + 4096
IP = b"\x45" + bytes(19)


def attribute(kind, body):
    return struct.pack("=HH", len(body) + 4, kind) + body + b"\0" * (-len(body) % 4)


def number(kind, value):
    return attribute(kind, struct.pack("!I", value))


def message(*attributes, kind=PACKET, family=2):
    body = struct.pack("!BBH", family, 0, 3) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def packet(id, payload=IP, hook=2, *more, family=2):
    return message(attribute(HEADER, struct.pack("!IHB", id, 0x0800, hook)), *more, attribute(PAYLOAD, payload), family=family)


def error(number):
    return struct.pack("=IHHIIi", 36, ERROR, 0, 0, 0, -number) + bytes(16)


def take(datagram):
    """([facts of each packet], statistics)."""
    seen = []

    def look(view):
        seen.append(dict(id=view.id, hook=view.hook, family=view.family, ifin=view.ifin, ifout=view.ifout, mark=view.mark,
                         priority=view.priority, skbinfo=view.skbinfo, uid=view.uid, hwaddr=view.hwaddr, data=view.data,
                         total=view.total, capacity=view.capacity))
        return ACCEPT

    engine = Callback(look)
    queue = Queue(3)
    queue.use(engine)
    queue.inject(datagram)
    assert engine.error is None
    return seen, queue.statistics()


def test_every_attribute():
    (got,), counted = take(packet(
        0x01020304, IP + b"xyz", 4, number(MARK, 7), number(INDEV, 2), number(OUTDEV, 3), number(SKB_INFO, 5), number(PRIORITY, 9),
        number(UID, 1000), number(GID, 1001), attribute(HWADDR, struct.pack("!HH8s", 6, 0, b"\1\2\3\4\5\6\0\0")), family=10))
    assert got == dict(id=0x01020304, hook=4, family=10, ifin=2, ifout=3, mark=7, priority=9, skbinfo=5, uid=1000,
                       hwaddr=b"\1\2\3\4\5\6", data=IP + b"xyz", total=23, capacity=got["capacity"])
    assert counted["packets"] == 1 and counted["bytes"] == 23 and counted["malformed"] == 0


def test_absent_attributes_are_zero():
    (got,), _ = take(packet(1))
    assert (got["mark"], got["ifin"], got["ifout"], got["priority"], got["uid"], got["hwaddr"]) == (0, 0, 0, 0, None, b"")


def test_a_packet_at_the_end_may_grow_into_the_rest_of_the_buffer():
    datagram = packet(1, IP)
    (got,), _ = take(datagram)
    assert got["capacity"] == len(IP) + BUFFER - len(datagram)


def test_a_cut_packet_has_its_length_and_no_room():
    (got,), counted = take(packet(1, IP, 2, number(CAP_LEN, 60000)))
    assert (got["total"], len(got["data"]), got["capacity"]) == (60000, 20, 20) and counted["bytes"] == 60000


@pytest.mark.parametrize("count", [2, 63, 64, 65, 200])
def test_several_messages_in_a_datagram(count):
    seen, counted = take(b"".join(packet(i + 1, IP + bytes([i % 256]) * (i % 9)) for i in range(count)))
    assert [got["id"] for got in seen] == list(range(1, count + 1))
    assert [got["data"] for got in seen] == [IP + bytes([i % 256]) * (i % 9) for i in range(count)]
    assert all(got["capacity"] == len(got["data"]) for got in seen[:-1])    # no room: the next message is behind
    assert counted["batches"] == -(-count // 64) and counted["accepted"] == count


def test_errors_and_packets_mix_and_an_acknowledgement_is_no_error():
    seen, counted = take(error(2) + packet(1) + error(0) + error(1) + packet(2) + error(2) + error(5000))
    assert len(seen) == 2 and counted["errors"] == {"ENOENT": 2, "EPERM": 1, "133": 1} and counted["malformed"] == 0


def test_gaps_in_ids_are_packets_our_socket_lost():
    assert take(packet(1) + packet(2) + packet(5) + packet(6))[1]["user_dropped"] == 2
    assert take(packet(4))[1]["user_dropped"] == 3                          # a queue's first id is 1


def test_a_packet_without_payload_or_of_no_length_is_judged():
    seen, _ = take(message(attribute(HEADER, struct.pack("!IHB", 1, 0x0800, 2))) + packet(2, b""))
    assert [(got["id"], got["data"]) for got in seen] == [(1, b""), (2, b"")]


@pytest.mark.parametrize("datagram", [
    b"", b"\0" * 15, b"\0" * 16, struct.pack("=IHHII", 15, PACKET, 0, 0, 0), struct.pack("=IHHII", 17, PACKET, 0, 0, 0),
    struct.pack("=IHHII", 0xFFFFFFFF, PACKET, 0, 0, 0), message(), message(attribute(HEADER, b"\0" * 6)),
    message(attribute(PAYLOAD, IP)), message(kind=0x0301), struct.pack("=IHHII", 16, ERROR, 0, 0, 0),
    packet(1)[:-8], struct.pack("=IHHII", 16, PACKET, 0, 0, 0),
])
def test_what_is_no_packet_is_counted_and_not_judged(datagram):
    seen, counted = take(datagram)
    assert seen == [] and counted["malformed"] == (0 if len(datagram) < 16 else 1)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 0xFFFF])
def test_a_broken_attribute_ends_the_message_but_not_the_datagram(length):
    broken = message(attribute(HEADER, struct.pack("!IHB", 1, 0x0800, 2)), struct.pack("=HH", length, PAYLOAD) + IP)
    seen, _ = take(broken + packet(2))
    assert [(got["id"], len(got["data"])) for got in seen] == [(1, 0), (2, 20)]


def test_random_damage():
    source = random.Random(20261123)
    whole = error(2) + packet(1, IP * 3, 2, number(MARK, 7), number(CAP_LEN, 99)) + packet(2, IP) + packet(3, b"x")
    judged = 0
    for _ in range(4000):
        datagram = bytearray(whole)
        for _ in range(source.randint(1, 6)):
            datagram[source.randrange(len(datagram))] = source.choice((0, 1, 4, 255, source.randrange(256)))
        seen, counted = take(bytes(datagram[:source.randint(0, len(datagram))]))
        assert len(seen) == counted["packets"] == counted["accepted"]
        assert all(len(got["data"]) <= got["capacity"] and len(got["data"]) <= len(datagram) for got in seen)
        judged += len(seen)
    assert judged > 1000


def test_constants_of_the_headers_are_those_of_limits():
    text = "".join((Path(__file__).parents[2] / "nfqfw" / name).read_text() for name in (
        "_outbox.pxd", "queue/_messages.pxd", "queue/_nfnetlink.pxd", "queue/_feed.pyx"))
    found = {}
    for name, value in re.findall(r"^    ([A-Z_]+) = (\d+)\s", text, re.M):
        found.setdefault(name, set()).add(int(value))
    assert found["BATCH"] == {limits.BATCH_PACKETS} and found["OUTBOX_PACKETS"] == {limits.OUTBOX_PACKETS}
    assert found["PAYLOAD_MAX"] == {limits.PAYLOAD_BYTES}
    assert min(found["RELEASED_MAX"]) > limits.QUEUE_LENGTH // 8
