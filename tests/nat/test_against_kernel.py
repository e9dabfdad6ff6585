"""NAT and header targets beside Linux: the same rules and packets through both, compared by bytes, counters and entries."""

from pathlib import Path

import pytest

from nfqfw.selftest import kernel as twin
from nfqfw.selftest.case import Case, Step
from nfqfw.selftest.flow import read_flow
from nfqfw.selftest.ours import OurTwin
from nfqfw.selftest.outcome import differences
from nfqfw.selftest.packets import IPV4, IPV6, Packet

pytestmark = [pytest.mark.netns, pytest.mark.skipif(bool(twin.missing()), reason=f"kernel twin: {twin.missing()}")]
CASES = [case for path in sorted(Path(__file__).with_name("flows").glob("*.flow")) for case in read_flow(path)]


def nat(*rules: str) -> str:
    chains = "".join(f":{name} ACCEPT [0:0]\n" for name in ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"))
    return "*nat\n" + chains + "".join(rule + "\n" for rule in rules) + "COMMIT\n"


@pytest.fixture(scope="module")
def kernel():
    with twin.KernelTwin() as k:
        yield k


@pytest.fixture(scope="module")
def ours():
    with OurTwin() as o:
        yield o


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_flow_is_equal(kernel, ours, case):
    assert differences(kernel.run(case), ours.run(case)) == []


RANGES = [
    (IPV4, "-A POSTROUTING -o eth1 -j SNAT --to-source 10.2.3.4-10.2.9.200"),
    (IPV4, "-A POSTROUTING -o eth1 -j SNAT --to-source 10.2.3.4-10.2.9.200 --persistent"),
    (IPV4, "-A PREROUTING -i eth0 -j DNAT --to-destination 10.2.1.1-10.2.1.250"),
    (IPV4, "-A PREROUTING -i eth0 -j DNAT --to-destination 10.2.1.1-10.2.1.250 --persistent"),
    (IPV6, "-A POSTROUTING -o eth1 -j SNAT --to-source 2001:db8:b::1:2-2001:db8:b::7:ffff"),
    (IPV6, "-A POSTROUTING -o eth1 -j SNAT --to-source 2001:db8:b::1:2-2001:db8:b:1:2:3:4:5 --persistent"),
    (IPV6, "-A PREROUTING -i eth0 -j DNAT --to-destination 2001:db8:b::1:2-2001:db8:b:0:2:3:4:5"),
]


@pytest.mark.parametrize("family, rule", RANGES, ids=[f"v{4 if f == IPV4 else 6} {r.split(' -j ')[1]}" for f, r in RANGES])
def test_a_range_gives_1000_sources_the_kernels_addresses(kernel, ours, family, rule):
    """Sources and destinations vary; both ends enter the hash (the destination not with --persistent)."""
    sources = [f"10.1.{i // 200}.{i % 200 + 10}" if family == IPV4 else f"2001:db8:a::{i * 7919 % 65000 + 10:x}:{i + 1:x}"
               for i in range(1000)]
    steps = [Step(0, "client", Packet("udp", source, f"S{i % 13}", 1000 + i, 53, length=4)) for i, source in enumerate(sources)]
    case = Case(family, nat(rule), steps, "range")
    theirs, mine = kernel.run(case), ours.run(case)
    assert len({step[0].data for step in theirs.steps if step}) == 1000
    assert differences(theirs, mine) == []


def ends(outcome):
    """(source, source port) of each packet that left."""
    return [tuple(step[0].data[12:16]) + (int.from_bytes(step[0].data[20:22], "big"),) if step else None for step in outcome.steps]


def source_class(port: int) -> str:
    return "1-511" if port < 512 else "600-1023" if 600 <= port < 1024 else "1024-65535" if port >= 1024 else "other"


@pytest.mark.parametrize("port, wanted", [(100, "1-511"), (511, "1-511"), (512, "600-1023"), (1023, "600-1023"),
                                          (1024, "1024-65535"), (40000, "1024-65535")])
def test_a_port_that_is_taken_moves_within_its_class(kernel, ours, port, wanted):
    """The second of two clients behind one address, same port, same server: spec/conntrack.md 2, port search."""
    steps = [Step(0, "client", Packet("udp", f"C{i}", "S0", port, 53, length=4)) for i in range(20)]
    case = Case(IPV4, nat("-A POSTROUTING -o eth1 -j SNAT --to-source 10.2.0.99"), steps, "classes")
    for outcome in (kernel.run(case), ours.run(case)):
        found = ends(outcome)
        assert found[0] == (10, 2, 0, 99, port)
        assert len(set(found)) == 20                                    # every client got its own
        assert {source_class(end[4]) for end in found[1:]} == {wanted}


def test_a_source_keeps_its_mapping_towards_other_destinations(kernel, ours):
    """Endpoint-independent: the moved port is used again for the next server."""
    steps = [Step(0, "client", Packet("udp", "C0", "S0", 4000, 53, length=4)),
             Step(0, "client", Packet("udp", "C1", "S0", 4000, 53, length=4)),
             *(Step(0, "client", Packet("udp", "C1", f"S{i}", 4000, 53, length=4)) for i in range(1, 6))]
    case = Case(IPV4, nat("-A POSTROUTING -o eth1 -j SNAT --to-source 10.2.0.99"), steps, "reuse")
    for outcome in (kernel.run(case), ours.run(case)):
        found = ends(outcome)
        assert found[0][4] == 4000 and found[1][4] != 4000
        assert set(found[2:]) == {found[1]}


def test_an_exhausted_range_loses_the_packet_at_confirm(kernel, ours):
    steps = [Step(0, "client", Packet("udp", f"C{i}", "S0", 4000, 53, length=4)) for i in range(5)]
    case = Case(IPV4, nat("-A POSTROUTING -p udp -o eth1 -j SNAT --to-source 10.2.0.99:5000-5002"), steps, "exhausted")
    for outcome in (kernel.run(case), ours.run(case)):
        found = ends(outcome)
        assert sorted(end[4] for end in found[:3]) == [5000, 5001, 5002]
        assert found[3:] == [None, None]
        assert len(outcome.connections) == 3


def test_dnat_takes_the_lowest_port_that_is_free_and_random_any(kernel, ours):
    steps = [Step(0, "client", Packet("tcp", "C0", "S9", 4000 + i, 80)) for i in range(4)]
    plain = Case(IPV4, nat("-A PREROUTING -p tcp -d 10.2.0.19 -j DNAT --to-destination 10.2.0.10:5000-5003"), steps, "lowest")
    assert differences(kernel.run(plain), ours.run(plain)) == []
    random = Case(IPV4, nat("-A PREROUTING -p tcp -d 10.2.0.19 -j DNAT --to-destination 10.2.0.10:5000-5003 --random"), steps, "random")
    for outcome in (kernel.run(random), ours.run(random)):
        ports = {int.from_bytes(step[0].data[22:24], "big") for step in outcome.steps}
        assert ports <= {5000, 5001, 5002, 5003}


def test_random_never_keeps_the_port_by_choice(kernel, ours):
    steps = [Step(0, "client", Packet("udp", "C0", "S0", 4000 + i, 53, length=4)) for i in range(50)]
    for flag in ("--random", "--random-fully"):
        case = Case(IPV4, nat(f"-A POSTROUTING -o eth1 -j SNAT --to-source 10.2.0.99 {flag}"), steps, "random")
        for outcome in (kernel.run(case), ours.run(case)):
            found = [end[4] for end in ends(outcome)]
            assert sum(port == 4000 + i for i, port in enumerate(found)) <= 1
            assert min(found) >= 1024


def test_icmp_ids_move_when_two_clients_collide(kernel, ours):
    steps = [Step(0, "client", Packet("icmp", f"C{i}", "S0", name="echo-request", ident=7, number=1, length=8)) for i in range(3)]
    case = Case(IPV4, nat("-A POSTROUTING -o eth1 -j SNAT --to-source 10.2.0.99"), steps, "ids")
    for outcome in (kernel.run(case), ours.run(case)):
        idents = [int.from_bytes(step[0].data[24:26], "big") for step in outcome.steps]
        assert idents[0] == 7 and len(set(idents)) == 3


def test_a_connection_without_a_rule_moves_its_port_when_its_answers_would_be_anothers(kernel, ours):
    """A null binding: C0 looks like C1:4000 outside; then the real C1 speaks from port 4000."""
    steps = [Step(0, "client", Packet("udp", "C0", "S0", 4000, 53, length=4)), Step(0, "client", Packet("udp", "C1", "S0", 4000, 53, length=4)),
             Step(0, "client", Packet("udp", "C1", "S1", 4000, 53, length=4))]
    case = Case(IPV4, nat("-A POSTROUTING -s $C0 -o eth1 -j SNAT --to-source $C1".replace("$C0", "10.1.0.10").replace("$C1", "10.1.0.11")), steps, "null")
    for outcome in (kernel.run(case), ours.run(case)):
        found = ends(outcome)
        assert len({end[:4] for end in found}) == 1 and found[0][4] == 4000, found
        assert found[1][4] != 4000 and source_class(found[1][4]) == "1024-65535"
        assert found[2][4] == 4000                                      # towards another server nothing is in the way


@pytest.mark.parametrize("number, gets_in", [(900_000, True), (1_000, False)])
def test_a_full_range_gives_the_port_of_a_closed_connection_to_a_syn_that_is_ahead(kernel, ours, number, gets_in):
    """Two ports, one of them held by a connection that was closed: the newcomer's sequence number decides."""
    rule = "-A POSTROUTING -p tcp -o eth1 -j SNAT --to-source 10.2.0.99:5000-5001"
    answered = [Step(0, "client", Packet("tcp", "C0", "S0", 4000, 80, flags="S", seq=500_000)),
                Step(0, "client", Packet("tcp", "C1", "S0", 4000, 80, flags="S", seq=500_000))]
    steps = [*answered, *(Step(0, "server", Packet("tcp", "S0", "10.2.0.99", 80, port, flags="S.", seq=1, ack=500_001)) for port in (5000, 5001)),
             Step(0, "server", Packet("tcp", "S0", "10.2.0.99", 80, 5000, flags="R.", seq=2, ack=500_001)),
             Step(0, "client", Packet("tcp", "C2", "S0", 4000, 80, flags="S", seq=number))]
    case = Case(IPV4, nat(rule), steps, "evicted")
    for outcome in (kernel.run(case), ours.run(case)):
        assert sorted(end[4] for end in ends(outcome)[:2]) == [5000, 5001]
        assert (ends(outcome)[-1] == (10, 2, 0, 99, 5000)) == gets_in, ends(outcome)


def test_what_is_too_short_to_translate_is_dropped(kernel, ours):
    """Enhanced GRE (version 1) with less than 8 bytes, a redirect about a translated flow, an error that quotes too little."""
    rule = "-A POSTROUTING -s 10.1.0.10 -o eth1 -j SNAT --to-source 10.2.0.99"
    flow = Packet("udp", "C0", "S0", 5000, 53, length=4)
    outside = Packet("udp", "10.2.0.99", "S0", 5000, 53, length=4)
    steps = [Step(0, "client", Packet("47", "C0", "S0", payload=bytes.fromhex("2001880b"))), Step(0, "client", flow),
             Step(0, "server", Packet("icmp", "N", "10.2.0.99", kind=5, code=1, inner=outside)),
             Step(0, "server", Packet("icmp", "N", "10.2.0.99", name="unreachable", inner=outside)),
             Step(0, "server", Packet("icmp", "N", "10.2.0.99", name="unreachable", inner=outside, size=4))]
    case = Case(IPV4, nat(rule), steps, "short")
    theirs, mine = kernel.run(case), ours.run(case)
    assert [bool(step) for step in theirs.steps] == [False, True, False, True, False]
    assert differences(theirs, mine) == []
