"""The transport against the kernel: what a queue delivers, and what verdicts do.  Expected values: what was sent."""

import ctypes
import random
import re
import socket
import struct
import subprocess
import threading
import time

import pytest

from nfqfw.errors import NfqfwError
from nfqfw.queue._accept_all import AcceptAll
from nfqfw.queue._callback import Callback
from nfqfw.queue._nfnetlink import Queue

pytestmark = pytest.mark.netns

DROP, ACCEPT, HELD = 0, 1, 2
FORWARD, OUTPUT = 2, 3
UDP_PORT = 4000


@pytest.fixture
def udp(network):
    """(sender of the client, receiver of the server, address): datagrams cross the firewall's FORWARD."""
    network.divert()
    receiver = network.server.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((network.server.address(), UDP_PORT))
    receiver.settimeout(3)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sender = network.client.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    yield sender, receiver, (network.server.address(), UDP_PORT)
    sender.close()
    receiver.close()


def nothing_arrives(receiver):
    receiver.settimeout(0.3)
    with pytest.raises(TimeoutError):
        receiver.recv(65536)
    return True


def rewritten(packet: bytes, payload: bytes) -> bytes:
    """An IPv4 UDP packet without options with another payload; UDP checksum 0 = none (RFC 768)."""
    head = bytearray(packet[:28])
    struct.pack_into("!H", head, 2, 28 + len(payload))
    struct.pack_into("!H", head, 10, 0)
    total = sum(struct.unpack("!10H", bytes(head[:20])))
    total = (total & 0xffff) + (total >> 16)
    total = (total & 0xffff) + (total >> 16)
    struct.pack_into("!H", head, 10, ~total & 0xffff)
    struct.pack_into("!HH", head, 24, 8 + len(payload), 0)
    return bytes(head) + payload


def test_accept_all_passes_both_families_and_counts_them(network):
    network.divert()
    with network.running(AcceptAll()) as queue:
        for family in (4, 6):
            result = network.client.run(["ping", "-c", "3", "-i", "0.1", "-s", "100", network.server.address(family)])
            assert " 0% packet loss" in result.stdout
        assert network.wait_for(lambda: queue.statistics()["accepted"] >= 12)
        counted = queue.statistics()
    assert counted["packets"] == counted["accepted"] == 12          # three echoes, three replies, two families
    assert counted["bytes"] == 6 * (20 + 8 + 100) + 6 * (40 + 8 + 100)
    assert counted["errors"] == {} and counted["user_dropped"] == 0


def test_facts_of_a_packet(network, udp):
    sender, receiver, address = udp
    seen = []

    def look(view):
        seen.append((view.hook, view.family, view.ifin, view.ifout, view.total, view.data[28:], view.mark, view.hwaddr))
        return ACCEPT

    with network.running(Callback(look)):
        sender.sendto(b"facts", address)
        assert receiver.recv(100) == b"facts"
    with network.firewall.entered():
        indexes = socket.if_nametoindex("eth0"), socket.if_nametoindex("eth1")
    (hook, family, ifin, ifout, total, payload, mark, hwaddr), = seen
    assert (hook, family, ifin, ifout, total, payload, mark) == (FORWARD, 2, *indexes, 33, b"facts", 0)
    assert len(hwaddr) == 6


def test_unjudged_and_failing_decisions_drop(network, udp):
    sender, receiver, address = udp

    def fail(view):
        raise LookupError

    engine = Callback(fail)
    with network.running(engine) as queue:
        sender.sendto(b"x", address)
        assert nothing_arrives(receiver)
        counted = queue.statistics()
    assert isinstance(engine.error, LookupError)
    assert counted["dropped"] == 1 and counted["reasons"] == {"internal": 1}


@pytest.mark.parametrize("payload", [b"", b"short", b"longer than what was sent" * 30], ids=len)
def test_a_changed_packet_goes_out_as_changed(network, udp, payload):
    sender, receiver, address = udp

    def change(view):
        view.data = rewritten(view.data, payload)
        return ACCEPT

    with network.running(Callback(change)) as queue:
        sender.sendto(b"0123456789", address)
        assert receiver.recv(2000) == payload
        assert queue.statistics()["rewritten"] == 1


def test_changed_and_unchanged_packets_mix_in_one_send(network, udp):
    """Odd payload lengths need padding between verdicts; a misaligned one would lose all behind it."""
    sender, receiver, address = udp

    def change(view):
        if view.id % 3 == 0:
            view.data = rewritten(view.data, b"%d:" % view.id + b"x" * (view.id % 7))
        return ACCEPT

    with network.running(Callback(change), start=False) as queue:
        for _ in range(60):
            sender.sendto(b"same", address)
        network.start(queue)
        got = [receiver.recv(100) for _ in range(60)]
        assert network.wait_for(lambda: queue.blocked)
        counted = queue.statistics()
    assert got == [b"same" if i % 3 else b"%d:" % i + b"x" * (i % 7) for i in range(1, 61)]
    assert counted["sends"] == 1 and counted["batches"] == 1 and counted["rewritten"] == 20


def whole_checksum(packet: bytes) -> bytes:
    """An IPv4 TCP packet without options with its TCP checksum written over all of it, as a returned payload needs."""
    head, segment = packet[:20], bytearray(packet[20:])
    segment[16:18] = b"\0\0"
    pseudo = packet[12:20] + struct.pack("!HH", 6, len(segment))
    padded = bytes(segment) + b"\0" * (len(segment) % 2)
    total = (int.from_bytes(padded) + int.from_bytes(pseudo)) % 0xFFFF         # the one's complement sum of 16-bit words
    segment[16:18] = (~total & 0xFFFF).to_bytes(2)
    return head + bytes(segment)


def test_super_packets_go_back_whole(network):
    """Every packet of a bulk transfer is returned as payload, up to 64 KiB each: many sends are cut in two, none is lost."""
    network.divert()
    largest = [0]

    def change(view):
        if view.data[9] == 6:
            largest[0] = max(largest[0], view.total)
            view.data = whole_checksum(view.data)
        return ACCEPT

    content = random.Random(1).randbytes(12 << 20)
    with network.server.socket() as listener, network.client.socket() as client, network.running(Callback(change)) as queue:
        listener.bind((network.server.address(), 443))
        listener.listen()
        listener.settimeout(5)
        client.settimeout(20)
        client.connect((network.server.address(), 443))
        sending = threading.Thread(target=lambda: (client.sendall(content), client.shutdown(socket.SHUT_WR)))
        sending.start()
        connection, _ = listener.accept()
        connection.settimeout(20)
        received = b"".join(iter(lambda: connection.recv(1 << 20), b""))
        sending.join()
        connection.close()
        counted = queue.statistics()
    assert received == content
    assert largest[0] > 20000, "no super-packet was seen"
    assert counted["rewritten"] > 0 and counted["verdicts_lost"] == 0 and counted["errors"] == {}


def test_mark_and_priority_travel_with_the_verdict(network, udp):
    sender, receiver, address = udp
    network.iptables("-t", "mangle", "-A", "POSTROUTING", "-m", "mark", "--mark", "0xdeadbeef")
    later = []
    network.divert("POSTROUTING", 4, "mangle")

    def mark(view):
        view.mark = 0xdeadbeef
        view.priority = 0x10020
        return ACCEPT

    def look(view):
        later.append((view.mark, view.priority))
        return ACCEPT

    with network.running(Callback(mark)), network.running(Callback(look), number=4):
        sender.sendto(b"x", address)
        assert receiver.recv(100) == b"x"
    assert later == [(0xdeadbeef, 0x10020)]
    assert re.search(r"^\s+1\s", network.iptables("-t", "mangle", "-nvxL", "POSTROUTING"), re.M) is not None


def test_a_cut_packet_is_never_sent_back(network, udp):
    sender, receiver, address = udp
    seen = []

    def change(view):
        seen.append((len(view.data), view.total, view.capacity))
        if view.total > 500:
            view.data = view.data[:40]
        return ACCEPT

    with network.running(Callback(change), copy_range=64) as queue:
        sender.sendto(b"x" * 600, address)
        assert nothing_arrives(receiver)
        sender.sendto(b"y" * 300, address)                          # unchanged: passes whole
        receiver.settimeout(3)
        assert receiver.recv(2000) == b"y" * 300
        counted = queue.statistics()
    assert seen == [(64, 628, 64), (64, 328, 64)]
    assert counted["reasons"] == {"truncated": 1} and counted["rewritten"] == 0


def test_copy_range_can_change_while_running(network, udp):
    sender, receiver, address = udp
    lengths = []
    with network.running(Callback(lambda view: lengths.append(len(view.data)) or ACCEPT), copy_range=64) as queue:
        sender.sendto(b"x" * 600, address)
        receiver.recv(2000)
        queue.set_copy_range(65531)
        sender.sendto(b"x" * 600, address)
        receiver.recv(2000)
    assert lengths == [64, 628]


def test_held_packets_leave_when_released_and_in_the_order_given(network, udp):
    sender, receiver, address = udp
    held = []

    def hold(view):
        if view.data[28:] != b"last":
            held.append(view.id)
            return HELD
        for index, id in enumerate(reversed(held)):
            engine.release(id, ACCEPT, at=0)
        return ACCEPT

    engine = Callback(hold)
    with network.running(engine) as queue:
        for text in (b"one", b"two", b"three"):
            sender.sendto(text, address)
        assert network.wait_for(lambda: len(held) == 3)
        assert network.kernel_line()[2] == 3
        sender.sendto(b"last", address)
        assert [receiver.recv(100) for _ in range(4)] == [b"three", b"two", b"one", b"last"]
        assert network.wait_for(lambda: queue.blocked)
        counted = queue.statistics()
    assert counted["held"] == 3 and counted["released"] == 3 and counted["accepted"] == 4


def test_idle_can_release(network, udp):
    sender, receiver, address = udp
    held = []
    engine = Callback(lambda view: held.append(view.id) or HELD, lambda: held and engine.release(held.pop(), ACCEPT))
    with network.running(engine):
        sender.sendto(b"late", address)
        assert receiver.recv(100) == b"late"


def test_a_verdict_for_an_unknown_packet_is_counted_and_not_fatal(network, udp):
    sender, receiver, address = udp

    def decide(view):
        if view.data[28:] == b"bad":
            engine.release(987654, ACCEPT)
        return ACCEPT

    engine = Callback(decide)
    with network.running(engine) as queue:
        sender.sendto(b"bad", address)
        assert receiver.recv(100) == b"bad"
        sender.sendto(b"good", address)
        assert receiver.recv(100) == b"good"
        assert network.wait_for(lambda: queue.statistics()["errors"] == {"ENOENT": 1})


def test_packets_flushed_by_a_device_that_goes_down_are_counted(network, udp):
    """The kernel drops what waits for the device without a word; a verdict for it comes back as ENOENT: one message for all."""
    sender, receiver, address = udp
    with network.running(AcceptAll(), start=False) as queue:
        for _ in range(7):
            sender.sendto(b"x", address)
        network.firewall.ip("link set eth1 down", "link set eth1 up")
        assert network.kernel_line()[2] == 0
        network.start(queue)
        assert network.wait_for(lambda: queue.statistics()["errors"] == {"ENOENT": 1})
        network.wait_for(lambda: network.client.run(["ping", "-c1", "-W1", network.server.address()]).returncode == 0)
        sender.sendto(b"after", address)
        assert receiver.recv(100) == b"after"


def test_removing_another_programs_base_chain_loses_packets_but_not_the_loop(network, udp):
    """spec/nfqueue.md 2: what waits in any queue of the namespace is dropped; the loop counts it and goes on."""
    sender, receiver, address = udp
    network.firewall.run(["nft", "add table ip other; add chain ip other c { type filter hook forward priority 5; }"], check=True)
    with network.running(AcceptAll(), start=False) as queue:
        for _ in range(5):
            sender.sendto(b"x", address)
        network.firewall.run(["nft", "delete table ip other"], check=True)
        assert network.wait_for(lambda: network.kernel_line()[2] == 0)
        network.start(queue)
        assert network.wait_for(lambda: queue.statistics()["errors"] == {"ENOENT": 1})
        sender.sendto(b"after", address)
        assert receiver.recv(100) == b"after"


def test_a_backlog_is_read_in_batches_and_answered_by_one_send_each(network, udp):
    sender, receiver, address = udp
    with network.running(AcceptAll(), start=False) as queue:
        for i in range(640):
            sender.sendto(struct.pack("!I", i), address)
        assert network.kernel_line()[2] == 640
        network.start(queue)
        assert [struct.unpack("!I", receiver.recv(100))[0] for _ in range(640)] == list(range(640))
        assert network.wait_for(lambda: queue.blocked)
        counted = queue.statistics()
    assert counted["batches"] == counted["sends"] == counted["runs"] == 10


def numbers(receiver, n):
    return [struct.unpack("!I", receiver.recv(100)[:4])[0] for _ in range(n)]


def test_drops_and_changes_between_packets_that_pass_as_they_are(network, udp):
    """Runs of the unchanged share a message; order, verdicts, marks are those of one message each."""
    sender, receiver, address = udp
    network.iptables("-t", "mangle", "-A", "POSTROUTING", "-m", "mark", "--mark", "0x7")

    def decide(view):
        number = struct.unpack("!I", view.data[28:])[0]
        if number % 10 == 7:
            view.mark = 7
        return DROP if number % 10 in (3, 8) else ACCEPT

    with network.running(Callback(decide), start=False) as queue:
        for i in range(200):
            sender.sendto(struct.pack("!I", i), address)
        network.start(queue)
        assert numbers(receiver, 160) == [i for i in range(200) if i % 10 not in (3, 8)]
        assert network.wait_for(lambda: queue.blocked)
        counted = queue.statistics()
        assert network.kernel_line()[2] == 0
    assert (counted["accepted"], counted["dropped"], counted["errors"]) == (160, 40, {})
    assert counted["runs"] > 20
    assert re.search(r"^\s+20\s.*0x7", network.iptables("-t", "mangle", "-nvxL", "POSTROUTING"), re.M)


def test_a_held_packet_is_not_passed_with_those_behind_it(network, udp):
    sender, receiver, address = udp
    held = []

    def decide(view):
        number = struct.unpack("!I", view.data[28:])[0]
        if number == 5:
            held.append(view.id)
            return HELD
        if number == 1000:
            engine.release(held.pop(), ACCEPT, at=0)
        return ACCEPT

    engine = Callback(decide)
    with network.running(engine, start=False) as queue:
        for i in range(150):
            sender.sendto(struct.pack("!I", i), address)
        network.start(queue)
        assert numbers(receiver, 149) == [i for i in range(150) if i != 5]
        assert network.wait_for(lambda: queue.blocked)
        assert network.kernel_line()[2] == 1 and queue.statistics()["runs"] == 0
        sender.sendto(struct.pack("!I", 1000), address)
        assert numbers(receiver, 2) == [5, 1000]


def test_after_a_gap_each_packet_has_its_own_verdict(network, udp):
    """What was lost on its way to us must not be passed by a verdict for what came later: from a gap on nothing is certain."""
    sender, receiver, address = udp
    with network.running(AcceptAll(), start=False, receive_buffer=16384) as queue:
        for i in range(300):
            sender.sendto(struct.pack("!I", i), address)
        network.start(queue)
        assert network.wait_for(lambda: queue.statistics()["packets"] == queue.statistics()["accepted"] > 0 and queue.blocked)
        sender.sendto(b"shows the gap", address)
        assert network.wait_for(lambda: queue.statistics()["user_dropped"] > 0)
        runs = queue.statistics()["runs"]
        for _ in range(10):
            for i in range(20):
                sender.sendto(struct.pack("!I", i), address)
        assert network.wait_for(lambda: network.kernel_line()[2] == 0 and queue.blocked)
        assert queue.statistics()["runs"] == runs


def test_a_full_socket_loses_packets_and_counts_them_as_the_kernel_does(network, udp):
    sender, receiver, address = udp
    with network.running(AcceptAll(), start=False, receive_buffer=16384) as queue:
        for i in range(500):
            sender.sendto(b"x", address)
        kernel = network.kernel_line()
        network.start(queue)
        assert network.wait_for(lambda: queue.statistics()["packets"] == kernel[2])
        sender.sendto(b"after", address)                            # shows the gap at the end
        assert network.wait_for(lambda: queue.statistics()["packets"] == kernel[2] + 1)
        counted = queue.statistics()
    assert kernel[6] > 0 and kernel[7] == 500
    assert counted["user_dropped"] == kernel[6] == 500 - kernel[2]


def test_a_reply_of_ours_leaves_by_the_raw_socket_with_its_mark(network, udp):
    sender, receiver, address = udp
    network.iptables("-A", "OUTPUT", "-m", "mark", "--mark", "0x77")
    sender.settimeout(3)
    sender.connect(address)

    def answer(view):
        packet = bytearray(rewritten(view.data, b"from the firewall"))
        packet[12:20] = packet[16:20] + packet[12:16]               # the sums do not see the swap
        packet[20:24] = packet[22:24] + packet[20:22]
        engine.reply(2, bytes(packet), 0x77)
        return DROP

    engine = Callback(answer)
    with network.running(engine) as queue:
        sender.send(b"hello")
        assert sender.recv(100) == b"from the firewall"
        assert network.wait_for(lambda: queue.statistics()["reject_sent"] == 1)
    assert re.search(r"^\s+1\s.*0x77", network.iptables("-nvxL", "OUTPUT"), re.M)


@pytest.mark.parametrize("mark, with_interface", [(0, False), (0, True), (0x77, True)])
def test_ipv6_replies(network, mark, with_interface):
    """A UDP answer in the server's name, to a global address; with the interface given as ancillary data or left to the route."""
    network.divert()
    with network.client.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(3)
        client.connect((network.server.address(6), UDP_PORT))

        def answer(view):
            data = view.data
            ends = data[24:40] + data[8:24]
            segment = data[42:44] + data[40:42] + struct.pack("!HH", 10, 0) + b"v6"
            total = int.from_bytes(ends + struct.pack("!II", 10, 17) + segment) % 0xFFFF
            segment = segment[:6] + (~total & 0xFFFF).to_bytes(2) + segment[8:]
            engine.reply(10, struct.pack("!IHBB", 6 << 28, 10, 17, 64) + ends + segment, mark, view.ifin if with_interface else 0)
            return DROP

        engine = Callback(answer)
        with network.running(engine) as queue:
            client.send(b"hello")
            assert client.recv(100) == b"v6"
            assert network.wait_for(lambda: queue.statistics()["reject_sent"] == 1)
    assert engine.error is None


def test_a_link_local_reply_leaves_by_its_interface(network):
    """fe80:: needs a scope: without the interface the kernel could not know the link."""
    network.divert("INPUT")
    sent = []

    def answer(view):
        data = view.data
        if data[6] == 58 and data[40] == 128 and data[8] == 0xFE:
            echo = b"\x81\0\0\0" + data[44:]
            ends = data[24:40] + data[8:24]
            total = int.from_bytes(ends + struct.pack("!II", len(echo), 58) + echo + b"\0" * (len(echo) % 2)) % 0xFFFF
            sent.append(engine.reply(10, data[:8] + ends + echo[:2] + (~total & 0xFFFF).to_bytes(2) + echo[4:], 0, view.ifin))
            return DROP
        return ACCEPT

    engine = Callback(answer)
    with network.running(engine):
        mac = bytes.fromhex(network.firewall.interfaces["eth0"].mac.replace(":", ""))
        address = "fe80::" + ":".join((bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]).hex()[i:i + 4] for i in (0, 4, 8, 12))
        result = network.client.run(["ping", "-6", "-c", "2", "-i", "0.1", "-W", "2", f"{address}%eth0"])
        assert " 0% packet loss" in result.stdout, (result.stdout, sent)
    assert sent == [True, True] and engine.error is None


def test_a_reply_that_cannot_be_sent_is_counted(network, udp):
    sender, _, address = udp

    def answer(view):
        engine.reply(2, b"\x45\0\0\x14" + bytes(12) + bytes([203, 0, 113, 1]))      # no route
        return DROP

    engine = Callback(answer)
    with network.running(engine) as queue:
        sender.sendto(b"x", address)
        assert network.wait_for(lambda: queue.statistics()["reject_failed"] == 1)


def test_a_queue_has_one_owner_and_the_error_names_it(network):
    with network.running(AcceptAll()):
        owner = network.kernel_line()[1]
        with network.firewall.entered(), pytest.raises(NfqfwError, match=f"owned by another process .*{owner}") as error:
            Queue(3).open()
        assert "--queue" in error.value.fix


def test_another_process_cannot_write_to_our_socket(network, udp):
    """A forged packet message would be judged, a forged error counted: the kernel must refuse it to the sender."""
    sender, receiver, address = udp
    with network.running(AcceptAll()) as queue:
        port = network.kernel_line()[1]
        forger = network.firewall.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
        with forger, pytest.raises(ConnectionRefusedError):
            forger.sendto(struct.pack("=IHHIIi", 20, 2, 0, 0, 0, -13), (port, 0))
        sender.sendto(b"x", address)
        assert receiver.recv(10) == b"x"
        assert queue.statistics()["errors"] == {} and queue.statistics()["malformed"] == 0


def test_close_frees_the_queue(network):
    with network.running(AcceptAll()):
        assert network.kernel_line() is not None
    assert network.kernel_line() is None
    with network.running(AcceptAll()):
        assert network.kernel_line()[7] == 0


def test_boundaries_for_a_swap(network, udp):
    """must 5: `passed` is true for a sleeping thread, false inside a batch, true after it."""
    sender, receiver, address = udp
    inside, go_on = threading.Event(), threading.Event()

    def decide(view):
        inside.set()
        go_on.wait(5)
        return ACCEPT

    with network.running(Callback(decide)) as queue:
        assert network.wait_for(lambda: queue.blocked)
        assert queue.passed(queue.epoch)
        sender.sendto(b"x", address)
        assert inside.wait(3)
        epoch = queue.epoch
        assert not queue.passed(epoch)
        go_on.set()
        assert receiver.recv(10) == b"x"
        assert network.wait_for(lambda: queue.passed(epoch))


def test_packets_go_on_while_another_thread_holds_the_gil(network):
    network.divert()
    with network.running(AcceptAll()):
        ping = network.client.popen(["ping", "-c", "150", "-i", "0.01", network.server.address()],
                                    stdout=subprocess.PIPE, text=True)
        time.sleep(0.3)
        ctypes.PyDLL(None).usleep(1_500_000)                        # PyDLL: the call keeps the GIL
        output, _ = ping.communicate(timeout=10)
    times = sorted(float(text) for text in re.findall(r"time=([\d.]+)", output))
    assert len(times) == 150
    assert times[-2] < 100, "milliseconds: the loop waited for the GIL"
