"""Several engines, a thread each, over one flow table: NAT both ways, ICMP errors, look-alikes, packets that the kernel refuses.

The kernel's queues are in memory (nfqfw/selftest/_threads.pyx).  Every answer must reach the client that asked, from whom it
asked, with the payload it sent; counters are exact, nothing stays in flight, no unconfirmed entry stays in the table.
"""

import threading
import time

import pytest

from nfqfw._conntrack import ConntrackTable
from nfqfw._engine import LoadedProgram, engines
from nfqfw.compile import compile_rulesets
from nfqfw.plan import hook_mask
from nfqfw.rules import load
from nfqfw.selftest._threads import Exchange
from tests.conntrack.test_threads import run_all
from tests.engine.support import host_block

RULES = """*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -d 192.0.2.0/24 -j DNAT --to-destination 10.0.2.2
-A POSTROUTING -d 10.0.2.2 -j SNAT --to-source 10.0.2.1
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate ESTABLISHED
-A FORWARD -m conntrack --ctstate RELATED
-A FORWARD -m conntrack --ctstate NEW
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -j ACCEPT
COMMIT
"""
DATAGRAMS = 60_000
SECONDS = 40


class Firewall:
    """Engines 0 … threads-1 with the rules above, at PREROUTING and FORWARD."""

    def __init__(self, threads: int):
        self.program = compile_rulesets([load(RULES, "rules.v4", 2)])
        self.loaded = LoadedProgram(self.program, threads)
        self.table = ConntrackTable()
        self.engines = engines(self.table, host_block(), threads, attached=hook_mask(frozenset(("PREROUTING", "FORWARD"))))
        for engine in self.engines:
            engine.load(self.loaded)

    def run(self, exchange: Exchange) -> dict:
        run_all(*(lambda n=number, e=engine: exchange.work(n, e, SECONDS) for number, engine in enumerate(self.engines)))
        return exchange.tally()

    def settle(self) -> None:
        """As when traffic ends: each thread finds its socket empty, again and again."""
        for _ in range(5):
            time.sleep(0.002)
            for engine in self.engines:
                engine.idle(time.monotonic_ns())

    def rules(self) -> list[tuple[int, int]]:
        values = self.loaded.counters_list()
        chain = next(n for n, info in enumerate(self.program.chains) if (info.table, info.chain.name) == ("filter", "FORWARD"))
        return [values[row][0] for row, owner in enumerate(self.program.rule_chain) if owner == chain]


@pytest.mark.parametrize("threads", (1, 2, 3))
def test_every_answer_reaches_who_asked(threads):
    firewall = Firewall(threads)
    found = firewall.run(Exchange(threads, DATAGRAMS, refuse=40, error=20))
    wrong = {name: found[name] for name in ("lost", "wrong_client", "wrong_answerer", "wrong_quote", "wrong_source", "full", "under_way")}
    assert not any(wrong.values()), wrong
    assert found["sent"] == DATAGRAMS and found["errors"] and found["refused"]
    assert found["answered"] + found["errors"] == found["sent"] - found["refused"]
    firewall.settle()
    stats = [engine.stats() for engine in firewall.engines]
    assert sum(one["refused_by_kernel"] for one in stats) == found["refused"]
    assert firewall.engines[0].in_flight == 0
    established, related, new, invalid, accepted = firewall.rules()
    assert (related, invalid) == (found["errors"], 0)
    assert established + related + new == accepted
    assert len(firewall.table.list(unconfirmed=True)) == len(firewall.table.list()), "no unconfirmed entry is left"


def test_two_threads_never_give_one_port_to_two_connections():
    """16,000 clients with one port, half of them in each queue: one address for all."""
    firewall = Firewall(2)
    found = firewall.run(Exchange(2, 16_000, clients=16_000, vips=1))
    assert found["answered"] == 16_000 and firewall.table.stats()["insert_failed"] == 0
    entries = firewall.table.list()
    assert len({(entry.reply.src, entry.reply.sport, entry.reply.dst, entry.reply.dport) for entry in entries}) == len(entries) == 16_000
