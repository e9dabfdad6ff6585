"""The flow cache changes nothing but time: what a packet meets is the same whether its flow remembers it or not (_paths.pxd).

Random rulesets over all tables and random sequences of packets of few flows, so that most are repeats; two engines, one with the
cache, must agree on every verdict, mark, byte, counter, log record and connection, through reloads and other changes.
"""

import random
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, ICMPv6EchoReply, ICMPv6EchoRequest

from nfqfw._conntrack import ConntrackTable
from nfqfw._engine import Engine, LoadedProgram
from nfqfw.compile import compile_rulesets
from nfqfw.limits import FLOW_PATHS
from nfqfw.packets import FORWARD, POSTROUTING, PREROUTING, PacketIn
from nfqfw.plan import attach_plan, hook_mask
from nfqfw.rules import load
from tests.engine.support import SECOND, host_block

CHAINS = {"raw": ("PREROUTING",), "mangle": ("PREROUTING", "FORWARD", "POSTROUTING"), "nat": ("PREROUTING", "POSTROUTING"),
          "filter": ("FORWARD",)}
ALL, FUSED = 0x1f, 0x0e                 # hooks attached: every one; INPUT, FORWARD and OUTPUT
CLIENTS, SERVERS = ("10.0.1.2", "10.0.1.3"), ("10.0.2.2", "10.0.2.3")
CLIENTS6, SERVERS6 = ("2001:db8:1::2", "2001:db8:1::3"), ("2001:db8:2::2", "2001:db8:2::3")

SAME = (                                # what every packet of a flow answers alike
    "-p tcp", "-p udp", "! -p tcp", "-s {client}", "! -s {client}", "-d {server}", "-i eth0", "! -i eth1", "-m conntrack --ctstate NEW",
    "-m conntrack --ctstate RELATED,ESTABLISHED", "-m conntrack ! --ctstate NEW", "-m conntrack --ctstate DNAT", "-m conntrack --ctstatus ASSURED",
    "-m conntrack --ctstatus SEEN_REPLY", "-m conntrack --ctdir REPLY", "-m conntrack --ctorigdst {server}", "-m mark --mark 1/1",
    "-m mark ! --mark 2/2", "-m connmark --mark 1/1", "-m connmark ! --mark 4/4", "-p tcp -m tcp --tcp-flags PSH PSH",
    "-p tcp -m tcp ! --tcp-flags SYN,ACK ACK", "-p tcp -m tcp --dport 80", "-p udp -m multiport --ports 53,1000:2000", "-m addrtype --dst-type LOCAL",
    "-m addrtype ! --src-type LOCAL", "-p {icmp}", "-m comment --comment x")
VARYING = (                             # what they do not
    "-m statistic --mode nth --every 3 --packet 0", "-m limit --limit 2/s --limit-burst 3", "-m length --length 0:50", "-m connbytes --connbytes 4 --connbytes-dir both --connbytes-mode packets",
    "-m quota --quota 300", "-m conntrack --ctexpire 0:20", "-m recent --name r --update --seconds 3 --hitcount 2", "-m recent --name r --set", "-m tos --tos 4/4")
TARGETS = {
    "raw": ("", "ACCEPT", "NOTRACK", "RETURN"),
    "mangle": ("", "ACCEPT", "RETURN", "DROP", "MARK --set-xmark 1/1", "MARK --set-xmark 2/2", "MARK --set-mark 0", "CONNMARK --save-mark", "CONNMARK --restore-mark",
               "CONNMARK --set-xmark 1/1", "CONNMARK --set-xmark 4/4", "jump", "goto", "TOS --set-tos 4/4", "CLASSIFY --set-class 1:{n}"),
    "nat": ("ACCEPT", "RETURN", "DNAT --to-destination {server}", "SNAT --to-source {client}", "SNAT --to-source {client}", "DNAT --to-destination {server}"),
    "filter": ("", "ACCEPT", "ACCEPT", "RETURN", "DROP", "jump", "goto", "LOG", "REJECT"),
}


def random_rule(rng, table, chain, jumps, v6):
    words = {"client": rng.choice(CLIENTS6 if v6 else CLIENTS), "server": rng.choice(SERVERS6 if v6 else SERVERS), "n": rng.randrange(1, 4),
             "icmp": "ipv6-icmp" if v6 else "icmp"}
    matches = rng.sample(SAME, rng.choice((0, 1, 1, 2)))
    if rng.random() < 0.08 and table != "nat":
        matches.insert(rng.randrange(len(matches) + 1), rng.choice(VARYING))
    if chain == "POSTROUTING":
        matches = [match for match in matches if "-i " not in match]
    target = rng.choice(TARGETS[table])
    if target.startswith("DNAT") and chain != "PREROUTING" or target.startswith("SNAT") and chain != "POSTROUTING":
        target = "ACCEPT"
    if target in ("jump", "goto"):
        target = "" if not jumps else ("-j " if target == "jump" else "-g ") + rng.choice(jumps)
    elif target:
        target = "-j " + target
    once = {match.removeprefix("! ").split()[0] + (match if match.startswith("-m") else ""): match for match in matches}     # no two -s, -p ...
    matches = sorted(once.values(), key=lambda match: not match.removeprefix("! ").startswith("-p"))
    return " ".join([f"-A {chain}", *matches, target]).format(**words)


def random_rules(rng, v6):
    lines = []
    for table, chains in CHAINS.items():
        if rng.random() < (0.7 if table == "raw" else 0.35 if table == "nat" else 0.1):
            continue
        users = ["u1", "u2"] if table != "nat" else []
        lines.append(f"*{table}")
        lines += [f":{chain} {rng.choice(('ACCEPT', 'ACCEPT', 'DROP')) if table == 'filter' else 'ACCEPT'} [0:0]" for chain in chains]
        lines += [f":{user} - [0:0]" for user in users]
        for n, chain in enumerate([*chains, *users]):
            jumps = users if chain in chains else users[n - len(chains) + 1:]
            for _ in range(rng.randrange(2 if table in ("raw", "nat") else 6)):
                lines.append(random_rule(rng, table, chain, jumps, v6))
        lines.append("COMMIT")
    return "\n".join([*lines, ""])


class Flow:
    """One conversation: what either side may send."""

    def __init__(self, rng, v6, source):
        ip = IPv6 if v6 else IP
        ends = rng.choice(CLIENTS6 if v6 else CLIENTS), rng.choice(SERVERS6 if v6 else SERVERS)
        there, back = ip(src=ends[0], dst=ends[1]), ip(src=ends[1], dst=ends[0])
        kind = rng.randrange(5)
        port = rng.choice((53, 80, 1500))
        if kind < 2:
            ports, swapped = {"sport": source, "dport": port}, {"sport": port, "dport": source}
            self.opening = [(0, there / TCP(flags="S", seq=100, window=9000, **ports)), (1, back / TCP(flags="SA", seq=900, ack=101, window=9000, **swapped)),
                            (0, there / TCP(flags="A", seq=101, ack=901, window=9000, **ports))]
            self.talk = [(0, there / TCP(flags=flags, seq=101, ack=901, window=9000, **ports)) for flags in ("A", "A", "PA")]
            self.talk += [(1, back / TCP(flags=flags, seq=901, ack=101, window=9000, **swapped)) for flags in ("A", "PA")]
        elif kind < 4:
            self.opening = [(0, there / UDP(sport=source, dport=port) / b"x")]
            self.talk = [(0, there / UDP(sport=source, dport=port) / (b"x" * n)) for n in (1, 30)]
            self.talk += [(1, back / UDP(sport=port, dport=source) / b"y")]
        else:
            request, reply = (ICMPv6EchoRequest, ICMPv6EchoReply) if v6 else (lambda **k: ICMP(type=8, **k), lambda **k: ICMP(type=0, **k))
            self.opening = [(0, there / request(id=source))]
            self.talk = [(0, there / request(id=source)), (1, back / reply(id=source))]
        self.opening, self.talk = ([(way, bytes(packet)) for way, packet in packets] for packets in (self.opening, self.talk))
        self.sent = 0

    def next(self, rng):
        self.sent += 1
        return self.opening[self.sent - 1] if self.sent <= len(self.opening) else rng.choice(self.talk)


class Side:
    """One of the two that are compared."""

    def __init__(self, cached, attached):
        self.table = ConntrackTable(4096, 8192)
        self.engine = Engine(self.table, host_block(), attached=attached, flow_cache=cached, seed=1)
        self.attached = attached
        self.table.listen()

    def load(self, text, v6):
        self.loaded = LoadedProgram(compile_rulesets([load(text, "r", 10 if v6 else 2)]))
        self.engine.load(self.loaded)

    def send(self, data, way, mark, now):
        """The packet through all hooks that are attached; what each crossing said."""
        said, size = [], len(data)
        ifin, ifout = (3, 2) if way else (2, 3)
        for hook in (PREROUTING, FORWARD, POSTROUTING):
            if not self.attached >> hook & 1:
                continue
            packet = PacketIn(data, hook, ifin if hook != POSTROUTING else 0, ifout if hook != PREROUTING else 0, mark=mark, total=size)
            if hook == POSTROUTING:
                packet.ifin = ifin
            decision = self.engine.one(packet, now, now)
            said.append((hook, decision.verdict, decision.reason, decision.mark, decision.priority, decision.data, decision.ctinfo, decision.dirty))
            if decision.verdict != 1:
                break
            data, mark = decision.data or data, decision.mark
        return said

    def connections(self, now):
        return sorted(str(replace(entry, id=0, number=0, wall_ns=0)) for entry in self.table.list(now_ns=now))


def run(seed, v6, attached, packets=250):
    rng = random.Random(f"flow cache {seed} {v6}")
    sides = [Side(cached, attached) for cached in (True, False)]
    flows = [Flow(rng, v6, 3000 + n) for n in range(6)]
    now = 1000 * SECOND
    text = random_rules(rng, v6)
    for side in sides:
        side.load(text, v6)
    for n in range(packets):
        now += rng.choice((1000, 1000, SECOND // 3))
        event = rng.random()
        if event < 0.01:
            assert sides[0].loaded.counters_list() == sides[1].loaded.counters_list(), text
            text = random_rules(rng, v6)
            for side in sides:
                side.load(text, v6)
        elif event < 0.02:
            addresses = rng.choice(((2, "10.0.2.2", 24, ""), (2, "10.0.1.1", 24, "")))
            for side in sides:
                side.engine.set_host(host_block(addresses=((1, "127.0.0.1", 8, ""), addresses)))
        elif event < 0.03:
            mark = rng.randrange(8)
            for side in sides:
                for entry in side.table.list(now_ns=now):
                    side.table.change(entry.number, entry.id, mark=mark)
        way, data = rng.choice(flows).next(rng)
        mark = rng.choice((0, 0, 0, 1))
        cached, plain = (side.send(data, way, mark, now) for side in sides)
        assert cached == plain, f"packet {n}\n{text}"
        replies, others = (side.engine.take_replies() for side in sides)
        assert len(replies) == len(others)
    assert sides[0].loaded.counters_list() == sides[1].loaded.counters_list(), text
    events = [[event.kind for event in side.table.events(1 << 20)] for side in sides]
    assert events[0] == events[1], text
    assert sides[0].connections(now) == sides[1].connections(now)
    assert len(sides[0].engine.take_records()) == len(sides[1].engine.take_records())
    assert sides[1].engine.stats()["from_memory"] == 0
    return sides[0].engine.stats()["from_memory"]


@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
@pytest.mark.parametrize("attached", [ALL, FUSED], ids=["exact", "fused"])
def test_cache_on_and_off_are_identical(v6, attached):
    hits = sum(run(seed, v6, attached) for seed in range(40))
    assert hits > 1500, "the cache was hardly used: this test would prove nothing"


def passed(said, data, mark):
    """What became of a packet after all its crossings: verdict, mark, priority, bytes."""
    verdict, priority = 1, 0
    for _, verdict, _, mark, crossing, changed, _, _ in said:
        data = changed or data
        priority = crossing or priority
    return (verdict, mark, priority, data) if verdict == 1 else (verdict,)


@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
def test_every_hook_and_the_fewest_crossings_are_identical(v6):
    fewer = 0
    for seed in range(60):
        rng = random.Random(f"crossings {seed} {v6}")
        text = random_rules(rng, v6)
        program = compile_rulesets([load(text, "r", 10 if v6 else 2)])
        sides = [Side(True, attached) for attached in (ALL, hook_mask(attach_plan(program)))]
        fewer += not sides[1].attached & 1
        flows = [Flow(rng, v6, 3000 + n) for n in range(5)]
        now = 1000 * SECOND
        for side in sides:
            side.load(text, v6)
        for n in range(80):
            now += rng.choice((1000, 1000, SECOND // 3))
            way, data = rng.choice(flows).next(rng)
            mark = rng.choice((0, 0, 1))
            all_hooks, fewest = (passed(side.send(data, way, mark, now), data, mark) for side in sides)
            assert all_hooks == fewest, f"packet {n}\n{text}"
            assert len(sides[0].engine.take_replies()) == len(sides[1].engine.take_replies())
        assert sides[0].loaded.counters_list() == sides[1].loaded.counters_list(), text
        assert sides[0].connections(now) == sides[1].connections(now), text
    assert fewer > 3, "PREROUTING was diverted for nearly all rulesets: this test would prove nothing"


def accepting(*rules):
    return "\n".join(["*filter", ":FORWARD ACCEPT [0:0]", "-A FORWARD -m conntrack --ctstate NEW", *rules, "COMMIT", ""])


def talk(side, port, now, marks=(0,)):
    """A UDP flow made known, then one more packet per mark; the verdicts of those."""
    there = bytes(IP(src="10.0.1.2", dst="10.0.2.2") / UDP(sport=3000, dport=port) / b"x")
    back = bytes(IP(src="10.0.2.2", dst="10.0.1.2") / UDP(sport=port, dport=3000) / b"y")
    side.send(there, 0, 0, now)
    side.send(back, 1, 0, now)
    return [side.send(there, 0, mark, now)[-1][1] for mark in marks]


def test_a_full_table_walks_and_begins_anew_after_a_second():
    side = Side(True, FUSED)
    side.load(accepting(), False)
    assert set(talk(side, 53, 1000 * SECOND, range(1, FLOW_PATHS + 500))) == {1}
    assert side.engine.stats()["paths"] == FLOW_PATHS
    hits = side.engine.stats()["from_memory"]
    assert talk(side, 53, 1000 * SECOND, (10**6, 10**6, 10**6)) == [1, 1, 1]
    assert side.engine.stats()["from_memory"] == hits + 1                   # the answer, which has few paths
    talk(side, 53, 1002 * SECOND, (10**6, 10**6, 10**6))
    assert side.engine.stats()["from_memory"] > hits + 2 and side.engine.stats()["paths"] < 10
    assert max(packets for packets, _ in side.loaded.counters_list()) == FLOW_PATHS + 500 - 1 + 2 + 5 + 5


def test_what_an_earlier_process_remembered_means_nothing():
    before, now = Side(True, FUSED), 1000 * SECOND
    before.load(accepting(), False)
    assert talk(before, 53, now, (0, 0)) == [1, 1] and talk(before, 80, now, (0, 0)) == [1, 1]
    after = Side(True, FUSED)
    after.table = ConntrackTable.attach(before.table.arena.fd)
    after.engine = Engine(after.table, host_block(), attached=FUSED, flow_cache=True)
    after.load(accepting("-A FORWARD -p udp -m udp --dport 53 -j DROP"), False)
    assert talk(after, 80, now, (0, 0)) == [1, 1]                           # the numbers begin again, with paths that accept
    assert talk(after, 53, now, (0, 0)) == [0, 0]
