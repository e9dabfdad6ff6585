"""The NetfilterQueue package as transport: same engine, same results; its limits counted, not passed over."""

import re
import socket

import pytest

from nfqfw.errors import NfqfwError
from nfqfw.queue._accept_all import AcceptAll
from nfqfw.queue._callback import Callback
from nfqfw.queue.netfilterqueue import Queue, claimed_length, limits

pytest.importorskip("netfilterqueue")

DROP, ACCEPT, HELD = 0, 1, 2
PORT = 4000


@pytest.fixture
def udp(network):
    network.divert()
    receiver = network.server.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((network.server.address(), PORT))
    receiver.settimeout(3)
    sender = network.client.socket(socket.AF_INET, socket.SOCK_DGRAM)
    yield sender, receiver, (network.server.address(), PORT)
    sender.close()
    receiver.close()


@pytest.mark.parametrize("data, length", [
    (b"", 0), (b"\x45\0\x01\x02" + bytes(16), 258), (b"\x60\0\0\0\x01\x00" + bytes(34), 296), (b"\x45\0\x01\x02", 0), (bytes(40), 0),
])
def test_claimed_length(data, length):
    assert claimed_length(data) == length


def test_limits_tell_of_large_interfaces_only():
    assert len(limits(1500)) == 1
    assert "9000" in limits(9000)[1] and "3840" in limits(9000)[1]


class TestLive:
    pytestmark = pytest.mark.netns

    def test_accepts_both_families(self, network):
        network.divert()
        with network.running(AcceptAll(), transport=Queue) as queue:
            for family in (4, 6):
                assert " 0% packet loss" in network.client.run(
                    ["ping", "-c", "3", "-i", "0.05", "-s", "100", network.server.address(family)]).stdout
            assert network.wait_for(lambda: queue.statistics()["accepted"] == 12)
            counted = queue.statistics()
        assert counted["bytes"] == 6 * 128 + 6 * 148 and counted["errors"] == {} and counted["user_dropped"] == 0

    def test_facts_mark_and_payload(self, network, udp):
        sender, receiver, address = udp
        network.iptables("-t", "mangle", "-A", "POSTROUTING", "-m", "mark", "--mark", "0xabcd")
        seen = []

        def decide(view):
            seen.append((view.hook, view.family, view.total, view.mark, len(view.hwaddr)))
            view.mark = 0xabcd
            view.data = view.data[:26] + b"\0\0" + b"DATA"
            return ACCEPT

        with network.running(Callback(decide), transport=Queue) as queue:
            sender.sendto(b"data", address)
            assert receiver.recv(100) == b"DATA"
            assert queue.statistics()["rewritten"] == 1
        assert seen == [(2, 2, 32, 0, 6)]
        assert re.search(r"^\s+1\s.*0xabcd", network.iptables("-t", "mangle", "-nvxL", "POSTROUTING"), re.M)

    def test_drop_hold_release_and_order(self, network, udp):
        sender, receiver, address = udp
        held = []

        def decide(view):
            text = view.data[28:]
            if text == b"drop":
                return DROP
            if text.startswith(b"hold"):
                held.append(view.id)
                return HELD
            for id in reversed(held):
                engine.release(id, ACCEPT, at=0)
            return ACCEPT

        engine = Callback(decide)
        with network.running(engine, transport=Queue) as queue:
            for text in (b"hold 1", b"drop", b"hold 2"):
                sender.sendto(text, address)
            assert network.wait_for(lambda: len(held) == 2) and not queue.drained
            sender.sendto(b"last", address)
            assert [receiver.recv(100) for _ in range(3)] == [b"hold 2", b"hold 1", b"last"]
            assert network.wait_for(lambda: queue.drained)
            counted = queue.statistics()
        assert (counted["held"], counted["released"], counted["dropped"], counted["accepted"]) == (2, 2, 1, 3)

    def test_a_backlog_is_judged_in_batches_in_order(self, network, udp):
        sender, receiver, address = udp
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        with network.running(AcceptAll(), transport=Queue, start=False) as queue:
            for i in range(320):
                sender.sendto(b"%d" % i, address)
            network.start(queue)
            assert [int(receiver.recv(100)) for _ in range(320)] == list(range(320))
            assert queue.statistics()["batches"] == 5

    def test_a_packet_longer_than_the_package_delivers(self, network, udp):
        """Judged as cut: accepted whole when unchanged, dropped as `truncated` when a rule rewrites it.

        Time stamps are on, as any program on the host may switch them on: they make the kernel's messages longer.
        """
        sender, receiver, address = udp
        receiver.setsockopt(socket.SOL_SOCKET, 35, 1)       # SO_TIMESTAMPNS: on for the whole host while this socket lives
        for host, interface in ((network.client, "eth0"), (network.firewall, "eth0"), (network.firewall, "eth1"),
                                (network.server, "eth0")):
            host.ip(f"link set {interface} mtu 9000")
        seen = []

        def decide(view):
            seen.append((len(view.data), view.total))
            if view.data[28:29] == b"c":
                view.data = view.data
            return ACCEPT

        with network.running(Callback(decide), transport=Queue) as queue:
            sender.sendto(b"u" * 6000, address)
            assert receiver.recv(9000) == b"u" * 6000
            sender.sendto(b"c" * 6000, address)
            assert network.wait_for(lambda: queue.statistics()["dropped"] == 1)
            counted = queue.statistics()
        assert seen == [(3840, 6028)] * 2
        assert counted["reasons"] == {"truncated": 1} and counted["cut"] == 2 and counted["rewritten"] == 0

    def test_a_reply_of_ours(self, network, udp):
        sender, _, address = udp
        sender.settimeout(3)
        sender.connect(address)

        def answer(view):
            data = view.data
            engine.reply(2, data[:12] + data[16:20] + data[12:16] + data[22:24] + data[20:22] + data[24:26] + b"\0\0" + b"no!",
                         ifindex=view.ifin)
            return DROP

        engine = Callback(answer)
        with network.running(engine, transport=Queue):
            sender.send(b"may")
            assert sender.recv(100) == b"no!"

    def test_one_owner_and_a_clean_close(self, network):
        with network.running(AcceptAll(), transport=Queue):
            with network.firewall.entered(), pytest.raises(NfqfwError, match="owned by another process"):
                Queue(3).open()
        assert network.kernel_line() is None
