"""Attaching: what the installed `nft` says of it, what packets meet, and that nothing but our table is touched."""

import os
import re
import socket
import subprocess
import sys
import threading

import pytest

from netns import Lab
from nfqfw import attach
from nfqfw._netlink import NetlinkError
from nfqfw.errors import NfqfwError
from tests.tinyqueue import TinyQueue

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)      # NF_INET_*


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        yield lab


@pytest.fixture
def firewall(lab):
    """The calling thread is in the firewall; its ruleset is empty before and after."""
    with lab.firewall.entered():
        yield lab.firewall
    lab.firewall.run(["nft", "flush", "ruleset"], check=True)


def listing(host) -> str:
    return host.run(["nft", "list", "ruleset"], check=True).stdout


def send_udp(lab, count=1, family=4):
    kind = {4: socket.AF_INET, 6: socket.AF_INET6}[family]
    with lab.client.socket(kind, socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(b"x", (lab.server.address(family), 9))


def receiver(lab):
    """A UDP socket of the server on port 9, 0.3 s time-out."""
    opened = lab.server.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(("10.0.2.2", 9))
    opened.settimeout(0.3)
    return opened


def test_chains_are_where_the_design_wants_them(firewall):
    with attach.attach(["FORWARD", "PREROUTING"], 5, 3):
        text = listing(firewall)
    chains = dict(re.findall(r"chain (\w+) \{\s+type filter hook (\w+ priority [-\w]+);", text))
    assert chains == {"PREROUTING": "prerouting priority -450", "INPUT": "input priority filter", "POSTROUTING":
                      "postrouting priority 300", "FORWARD": "forward priority filter", "OUTPUT": "output priority -450"}
    assert text.count("policy accept") == 5
    assert re.findall(r"queue .*?num (\S+)", text) == ["5-7", "5-7"]
    assert "bypass" not in text


@pytest.mark.parametrize("family", [4, 6])
def test_packets_are_seen_at_the_wanted_hooks(lab, firewall, family):
    with TinyQueue() as queue, attach.attach(["PREROUTING", "FORWARD", "POSTROUTING"]):
        send_udp(lab, family=family)
        assert queue.accept(3) == [PREROUTING, FORWARD, POSTROUTING]


def test_local_packets(lab, firewall):
    with TinyQueue() as queue, attach.attach(["INPUT", "OUTPUT"]):
        ping = lab.client.popen(["ping", "-c1", "-W2", "10.0.1.1"], stdout=subprocess.DEVNULL)
        assert queue.accept(2) == [INPUT, OUTPUT]
        assert ping.wait(5) == 0


def test_without_a_reader_packets_are_dropped(lab, firewall):
    with receiver(lab) as server:
        send_udp(lab)
        assert server.recv(9) == b"x"
        attached = attach.attach(["FORWARD"])
        send_udp(lab)
        with pytest.raises(TimeoutError):
            server.recv(9)
        attached.detach()
        send_udp(lab)
        assert server.recv(9) == b"x"


def test_set_hooks_changes_rules_and_loses_no_waiting_packet(lab, firewall):
    with receiver(lab) as server, TinyQueue() as queue, attach.attach(["PREROUTING"]) as attached:
        send_udp(lab, 3)
        waiting = [queue.next()[0] for _ in range(3)]
        attached.set_hooks(["FORWARD", "INPUT"])
        assert attached.hooks == {"FORWARD", "INPUT"}
        attached.set_hooks([])
        assert attached.hooks == frozenset()
        for number in waiting:
            queue.verdict(number)
        assert [server.recv(9) for _ in range(3)] == [b"x"] * 3


def test_detach_drains_between_rules_and_table(lab, firewall):
    with receiver(lab) as server, TinyQueue() as queue:
        attached = attach.attach(["PREROUTING"])
        send_udp(lab, 2)

        def drain():
            assert attached.hooks == frozenset()
            assert queue.accept(2) == [PREROUTING] * 2

        attached.detach(drain)
        assert [server.recv(9) for _ in range(2)] == [b"x"] * 2
    assert listing(firewall) == ""


def test_detach_leaves_no_packet_between_two_hooks(lab, firewall):
    """What waits at PREROUTING when the detaching begins is still queued at FORWARD and POSTROUTING."""
    with TinyQueue() as queue:
        attached = attach.attach(["PREROUTING", "FORWARD", "POSTROUTING"])
        send_udp(lab)
        seen = []
        attached.detach(lambda: seen.append((queue.accept(1), attached.hooks)))
    assert seen == [([PREROUTING], {"FORWARD", "POSTROUTING"}), ([FORWARD], {"POSTROUTING"}), ([POSTROUTING], frozenset())]


def test_a_killed_process_leaves_the_table_and_the_next_adopts_it(firewall):
    code = ("import os, signal; from nfqfw import attach; attach.attach(['FORWARD', 'INPUT'], 2, 2);"
            "os.kill(os.getpid(), signal.SIGKILL)")
    firewall.run([sys.executable, "-c", code], cwd=os.getcwd())
    left = attach.find()
    assert (left.hooks, left.queue, left.queues) == ({"FORWARD", "INPUT"}, 2, 2)
    with attach.attach(["OUTPUT"], 7) as adopted:
        assert adopted.hooks == {"OUTPUT"}
    assert listing(firewall).count("num") == 1 and "num 7" in listing(firewall)
    left.detach()
    assert attach.find() is None


def test_adopting_keeps_waiting_packets(lab, firewall):
    with receiver(lab) as server, TinyQueue() as queue, attach.attach(["PREROUTING"]):
        send_udp(lab)
        number, _, _ = queue.next()
        attach.attach(["FORWARD"]).close()
        queue.verdict(number)
        assert queue.accept(1) == [FORWARD]
        assert server.recv(9) == b"x"


def test_a_table_of_other_layout_is_replaced(firewall):
    firewall.run(["nft", "-f", "-"], check=True, input="""
        table inet nfqfw { chain FORWARD { type filter hook forward priority 5; policy drop; }; chain old { }; }""")
    with attach.attach(["FORWARD"]):
        assert "priority 5" not in listing(firewall) and "chain old" not in listing(firewall)
        assert listing(firewall).count("policy accept") == 5


def test_other_tables_are_untouched(firewall):
    firewall.run(["nft", "add table inet other; add chain inet other c { type filter hook forward priority 0; policy accept; }"],
                 check=True)
    before = listing(firewall)
    attach.attach(["FORWARD"]).detach()
    assert listing(firewall) == before


def test_removing_what_is_not_there_is_fine(firewall):
    attached = attach.attach([])
    firewall.run(["nft", "delete", "table", "inet", "nfqfw"], check=True)
    attached.detach()
    assert attach.find() is None


def test_nft_queue_expression_where_the_target_is_missing(firewall, monkeypatch):
    """This kernel has no `queue` expression: with the target made unknown, both fail and nothing stays."""
    def unknown(queue, queues):
        return attach.nft.xt_nfqueue(queue, queues).replace(b"NFQUEUE", b"NOQUEUE")

    tried = []
    monkeypatch.setattr(attach, "EXPRESSIONS", (lambda *a: tried.append(1) or unknown(*a),
                                                lambda *a: tried.append(2) or attach.nft.nft_queue(*a)))
    with pytest.raises(NfqfwError) as caught:
        attach.attach(["FORWARD"])
    assert tried == [1, 2]
    assert "nft_compat" in caught.value.fix
    assert listing(firewall) == ""


def test_nft_queue_has_the_bytes_that_nft_sends():
    """`queue num 3-6` as nft 1.0.6 sends it (strace); this kernel has no such expression to try it on."""
    assert attach.nft.nft_queue(3, 4).hex() == ("24000180" "0a000100" "717565756500" "0000" "14000280"
                                                "06000100" "00030000" "06000200" "00040000")


def test_queue_owners(firewall):
    assert attach.queue_owners() == {}
    with TinyQueue(3):
        owner = attach.queue_owners()[3]
        assert (owner.copy_mode, owner.waiting) == (2, 0)


@pytest.mark.parametrize("queue, queues", [(-1, 1), (0, 0), (65535, 2)])
def test_queue_numbers_out_of_range(queue, queues):
    with pytest.raises(NfqfwError, match="65535"):
        attach.attach(["FORWARD"], queue, queues)


def test_unknown_hook():
    with pytest.raises(ValueError, match="INGRESS"):
        attach.attach(["INGRESS"])


def test_without_capability_the_error_says_so(firewall):
    code = ("from nfqfw import attach\nfrom nfqfw.errors import NfqfwError\n"
            "try: attach.attach(['FORWARD'])\nexcept NfqfwError as e: print(e, '|', e.fix)")
    done = firewall.run(["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", sys.executable, "-c", code])
    assert "not allowed" in done.stdout and "CAP_NET_ADMIN" in done.stdout, done


@pytest.mark.parametrize("number", [1, 93, 95, 22])
def test_every_refusal_has_a_fix(number):
    assert attach.explain(NetlinkError(number)).fix


class TestGuard:
    @pytest.fixture
    def guarded(self, firewall):
        """(attachment of FORWARD and INPUT, events: repaired hooks and errors, a threading.Event per entry)."""
        seen, happened = [], threading.Event()

        def note(what):
            seen.append(what)
            happened.set()

        with attach.attach(["FORWARD", "INPUT"], 4) as attached:
            guard = attach.Guard(attached, note, note)
            yield attached, seen, happened
            guard.close()

    @pytest.mark.parametrize("damage, lost", [
        ("flush ruleset", {"FORWARD", "INPUT"}),
        ("delete table inet nfqfw", {"FORWARD", "INPUT"}),
        ("flush chain inet nfqfw INPUT", {"INPUT"}),
        ("flush table inet nfqfw; delete chain inet nfqfw FORWARD", {"FORWARD", "INPUT"}),
    ])
    def test_damage_is_repaired(self, firewall, guarded, damage, lost):
        attached, seen, happened = guarded
        firewall.run(["nft", damage], check=True)
        assert happened.wait(2)
        assert attached.hooks == {"FORWARD", "INPUT"}
        assert frozenset().union(*seen) == lost
        assert listing(firewall).count("policy accept") == 5

    def test_changes_elsewhere_and_our_own_are_no_damage(self, firewall, guarded):
        attached, seen, happened = guarded
        firewall.run(["nft", "add table inet other"], check=True)
        attached.set_hooks(["OUTPUT"])
        firewall.run(["nft", "delete table inet other"], check=True)
        assert not happened.wait(0.2)
        assert attached.hooks == {"OUTPUT"}

    def test_after_detach_nothing_comes_back(self, firewall, guarded):
        attached, seen, happened = guarded
        attached.remove_rules()
        attached.remove_table()
        assert not happened.wait(0.2)
        assert listing(firewall) == ""

    def test_a_repair_that_fails_is_told(self, firewall, guarded, monkeypatch):
        attached, seen, happened = guarded
        monkeypatch.setattr(attach, "EXPRESSIONS", ())
        firewall.run(["nft", "flush ruleset"], check=True)
        assert happened.wait(2)
        assert isinstance(seen[0], NfqfwError)
