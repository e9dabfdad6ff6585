"""Looking a batch up ahead in the index of large chains changes nothing but time (_fastpath.pyx): batches and single packets agree."""

import random

import pytest
from scapy.layers.inet import IP, TCP, UDP

from nfqfw import compile
from nfqfw._engine import LoadedProgram
from nfqfw.packets import FORWARD
from nfqfw.queue._feed import Feed
from nfqfw.rules import load
from tests.engine.support import NAMES, Firewall
from tests.engine.test_index import random_packet, random_ruleset


def firewall(text, family, rules):
    """rules: from how many on a chain is large; 0 = none is."""
    fw = Firewall(text if family == 2 else "", text if family == 10 else "", hooks=("FORWARD",))
    fw.program = compile.compile_rulesets([load(text, "r", family)], index_from=1)
    assert (compile.HEADER.unpack_from(fw.program.block)[16] > 0) == (rules > 0)
    fw.loaded = LoadedProgram(fw.program)
    fw.engine.load(fw.loaded)
    return fw


def pair(text, family, monkeypatch):
    monkeypatch.setattr(compile, "AHEAD_RULES", 1 << 30)
    single = firewall(text, family, 0)
    monkeypatch.setattr(compile, "AHEAD_RULES", 1)
    return firewall(text, family, 1), single


def compare(batched, single, packets, family):
    """packets: (bytes, interface in, interface out, mark)."""
    feed = Feed(batched.engine)
    for number, (data, ifin, ifout, mark) in enumerate(packets):
        feed.add(data, FORWARD, id=number, family=family, ifin=NAMES[ifin], ifout=NAMES[ifout], mark=mark)
    decided = {decision.id: decision for decision in feed.run(batched.now, batched.now)}
    for number, (data, ifin, ifout, mark) in enumerate(packets):
        one = single.forward(data, ifin, ifout, mark=mark, family=family)
        if one.verdict != 2:                                # a held fragment is decided when the others are here
            assert decided[number].verdict == one.verdict, data.hex()
    assert batched.loaded.counters_list() == single.loaded.counters_list()


@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
@pytest.mark.parametrize("seed", range(25))
def test_batches_and_single_packets_agree(seed, v6, monkeypatch):
    rng = random.Random(f"ahead {seed} {v6}")
    family = 10 if v6 else 2
    batched, single = pair(random_ruleset(rng, v6, 120), family, monkeypatch)
    seen = []
    for _ in range(6):
        packets = [(random_packet(rng, v6), rng.choice(("eth0", "eth1", "lo")), rng.choice(("eth1", "eth0")), rng.randrange(2))
                   for _ in range(rng.choice((1, 2, 33, 64)))]
        seen += packets
        again = [rng.choice(seen) for _ in packets]         # known flows among them
        compare(batched, single, [rng.choice(both) for both in zip(packets, again, strict=True)], family)


def test_a_translated_packet_is_looked_up_as_it_is_then(monkeypatch):
    """DNAT comes before the large chain: what was found for the old address does not count."""
    text = "\n".join(["*nat", ":PREROUTING ACCEPT [0:0]", ":INPUT ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", ":POSTROUTING ACCEPT [0:0]",
                      "-A PREROUTING -p udp -m udp --dport 53 -j DNAT --to-destination 10.0.2.77:5353", "COMMIT", "*filter",
                      ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]",
                      *(f"-A FORWARD -d 10.0.2.{n} -p udp -m udp --dport {port} -j DROP" for n in range(60, 90) for port in (53, 5353)),
                      "COMMIT", ""])
    batched, single = pair(text, 2, monkeypatch)
    packets = [(bytes(IP(src=f"10.0.1.{n}", dst="10.0.2.80") / UDP(sport=1000 + n, dport=port)), "eth0", "eth1", 0)
               for n in range(2, 20) for port in (53, 54)]
    compare(batched, single, packets, 2)
    hit = [packets for packets, _ in batched.counters("FORWARD")]
    assert (hit[2 * 17 + 1], sum(hit)) == (18, 36)          # -d 10.0.2.77 --dport 5353, and the policy for port 54


def test_syn_and_class_are_those_of_the_packets_turn(monkeypatch):
    """The second packet of a batch is of a known connection; before the batch it was not."""
    text = "\n".join(["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT ACCEPT [0:0]",
                      *(f"-A FORWARD -s 10.9.{n}.0/24 -m conntrack --ctstate ESTABLISHED -j DROP" for n in range(30)),
                      "-A FORWARD -p tcp -m conntrack --ctstate NEW -m tcp --dport 80 -j ACCEPT",
                      "-A FORWARD -p tcp -m conntrack --ctstate ESTABLISHED -m tcp --sport 80 -j ACCEPT", "COMMIT", ""])
    batched, single = pair(text, 2, monkeypatch)
    syn, answer = (bytes(IP(src=a, dst=b) / TCP(sport=s, dport=d, flags=flags, seq=seq, ack=ack))
                   for a, b, s, d, flags, seq, ack in (("10.0.1.2", "10.0.2.2", 1000, 80, "S", 99, 0), ("10.0.2.2", "10.0.1.2", 80, 1000, "SA", 499, 100)))
    compare(batched, single, [(syn, "eth0", "eth1", 0), (answer, "eth1", "eth0", 0)], 2)
    assert [packets for packets, _ in batched.counters("FORWARD")][-3:] == [1, 1, 0]
