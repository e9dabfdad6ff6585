"""TCP: every cell of the measured table (spec/conntrack.md 1.4), reached by real packets, IPv4 and IPv6.

EXPECTED is what Linux 6.18.44 showed, written down independently of tcp.py: `class state timeout`; "=" nothing changes,
"del" the entry ends, "new" it is deleted and made again.
"""

import pytest

from nfqfw._conntrack import ConntrackTable
from nfqfw.conntrack import tcp as table
from tests.conntrack.packets import CLIENT, CLIENT6, SERVER, SERVER6, tcp

SECOND = 10**9
T = {"SYN_SENT": 120, "SYN_RECV": 60, "ESTABLISHED": 432000, "FIN_WAIT": 120, "CLOSE_WAIT": 60, "LAST_ACK": 30,
     "TIME_WAIT": 120, "CLOSE": 10, "SYN_SENT2": 120}
STATES = ("SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2")

# state -> packets that lead there: (direction, flags, seq, ack)
PATHS = {"SYN_SENT": [(0, "S", 1000, 0)]}
PATHS["SYN_RECV"] = PATHS["SYN_SENT"] + [(1, "S.", 5000, 1001)]
PATHS["ESTABLISHED"] = PATHS["SYN_RECV"] + [(0, ".", 1001, 5001)]
PATHS["FIN_WAIT"] = PATHS["ESTABLISHED"] + [(0, "F.", 1001, 5001)]
PATHS["CLOSE_WAIT"] = PATHS["FIN_WAIT"] + [(1, ".", 5001, 1002)]
PATHS["LAST_ACK"] = PATHS["CLOSE_WAIT"] + [(1, "F.", 5001, 1002)]
PATHS["TIME_WAIT"] = PATHS["LAST_ACK"] + [(0, ".", 1002, 5002)]
PATHS["CLOSE"] = PATHS["ESTABLISHED"] + [(0, "R", 1001, 0)]
PATHS["SYN_SENT2"] = PATHS["SYN_SENT"] + [(1, "S", 5000, 0)]
#                 seq and ack of the probe: (original, reply), right for the state
POSITION = {"SYN_SENT": ((1001, 0), (5000, 1001)), "SYN_RECV": ((1001, 5001), (5001, 1001)), "ESTABLISHED": ((1001, 5001), (5001, 1001)),
            "FIN_WAIT": ((1002, 5001), (5001, 1002)), "CLOSE_WAIT": ((1002, 5001), (5001, 1002)), "LAST_ACK": ((1002, 5002), (5002, 1002)),
            "TIME_WAIT": ((1002, 5002), (5002, 1002)), "CLOSE": ((1001, 5001), (5001, 1001)), "SYN_SENT2": ((1000, 5001), (5000, 1001))}
FLAGS = {"syn": "S", "synack": "S.", "fin": "F.", "ack": ".", "rst": "R.", "none": ""}

#                       SYN_SENT   SYN_RECV     ESTABLISHED  FIN_WAIT     CLOSE_WAIT   LAST_ACK     TIME_WAIT    CLOSE      SYN_SENT2
EXPECTED = {
    (0, "syn"):    "N =         E =          E =          E =          E =          E =          new          new        E SYN_SENT2",
    (0, "synack"): "I =         E SYN_RECV   I =          I =          I =          I =          I =          I =        E SYN_RECV",
    (0, "fin"):    "I =         E FIN_WAIT   E FIN_WAIT   E LAST_ACK   E LAST_ACK   E LAST_ACK   E TIME_WAIT  E CLOSE    I =",
    (0, "ack"):    "I =         E ESTABLISHED E ESTABLISHED E CLOSE_WAIT E CLOSE_WAIT E TIME_WAIT E TIME_WAIT E CLOSE    I =",
    (0, "rst"):    "N del       E CLOSE      E CLOSE      E CLOSE      E CLOSE      E CLOSE      E CLOSE      E CLOSE    E CLOSE",
    (0, "none"):   "I =         I =          I =          I =          I =          I =          I =          I =        I =",
    (1, "syn"):    "E SYN_SENT2 I =          I =          I =          I =          I =          swap         I =        E SYN_SENT2",
    (1, "synack"): "E SYN_RECV  E =          E =          E =          E =          E =          E =          E =        E SYN_RECV",
    (1, "fin"):    "I =         E FIN_WAIT   E FIN_WAIT   E LAST_ACK   E LAST_ACK   E LAST_ACK   E TIME_WAIT  E CLOSE    I =",
    (1, "ack"):    "E =         E SYN_RECV   E ESTABLISHED E CLOSE_WAIT E CLOSE_WAIT E TIME_WAIT E TIME_WAIT  E CLOSE    E =",
    (1, "rst"):    "E del       E CLOSE      E CLOSE      E CLOSE      E CLOSE      E CLOSE      E CLOSE      E CLOSE    E CLOSE",
    (1, "none"):   "I =         I =          I =          I =          I =          I =          I =          I =        I =",
}


def cells():
    for (direction, kind), row in EXPECTED.items():
        words, out = row.split(), []
        while words:
            out.append((words.pop(0), None) if words[0] in ("new", "swap") else (words.pop(0), words.pop(0)))
        assert len(out) == 9, (direction, kind, out)
        yield from ((direction, kind, state, *cell) for state, cell in zip(STATES, out, strict=True))


class Flow:
    """One connection in a table of its own; `now` moves a second per packet."""

    def __init__(self, six: bool = False, **settings: int):
        self.table = ConntrackTable(100, 1000)
        for name, value in settings.items():
            self.table.set("nf_conntrack_" + name, value)
        client, server = (CLIENT6, SERVER6) if six else (CLIENT, SERVER)
        self.ends = ((client, 1111, server, 80), (server, 80, client, 1111))
        self.now = 1000 * SECOND

    def send(self, direction, flags, seq=0, ack=0, **more) -> str:
        self.now += SECOND
        return self.table.process(tcp(*self.ends[direction], flags, seq=seq, ack=ack, **more), self.now)[0]

    @property
    def entry(self):
        return next(iter(self.table.list(now_ns=self.now)), None)


@pytest.mark.parametrize("six", [False, True], ids=["v4", "v6"])
@pytest.mark.parametrize("direction, kind, state, klass, then", list(cells()))
def test_cell(direction, kind, state, klass, then, six):
    flow = Flow(six)
    for step in PATHS[state]:
        flow.send(*step)
    before = flow.entry
    left = 119 if state == "SYN_SENT2" else T[state]        # the second SYN of a simultaneous open does not refresh
    assert before.state_name == state and before.timeout == left
    seq, ack = POSITION[state][direction]
    seq = 90000 if kind == "syn" and state not in ("SYN_SENT", "SYN_SENT2") else 1000 if (direction, kind, state) == (0, "syn", "SYN_SENT") else seq
    seen = flow.send(direction, FLAGS[kind], seq, ack if "." in FLAGS[kind] else 0)
    after = flow.entry
    if klass in ("new", "swap"):
        assert (seen, after.state_name, after.timeout) == ("NEW", "SYN_SENT", 120)
        assert after.original.src == flow.ends[1 if klass == "swap" else 0][0] and after.id != before.id
        return
    assert seen == {"N": "NEW", "E": "ESTABLISHED", "I": "INVALID"}[klass]
    if then == "del":
        assert after is None
    elif then == "=":
        assert (after.state_name, after.timeout) == (state, left - 1), "state and time-out must not be touched"
    elif (direction, kind, state) == (1, "syn", "SYN_SENT"):
        assert (after.state_name, after.timeout) == (then, left - 1)
    else:
        assert (after.state_name, after.timeout) == (then, T[then])


@pytest.mark.parametrize("kind, flags, klass, state, timeout", [
    ("syn", "S", "NEW", "SYN_SENT", 120), ("synack", "S.", "INVALID", None, 0), ("fin", "F.", "INVALID", None, 0),
    ("ack", ".", "NEW", "ESTABLISHED", 300), ("rst", "R", "INVALID", None, 0), ("none", "", "INVALID", None, 0)])
def test_first_packet(kind, flags, klass, state, timeout):
    flow = Flow()
    assert flow.send(0, flags, 1, 1) == klass
    entry = flow.entry
    assert (entry.state_name, entry.timeout) == (state, timeout) if state else entry is None


@pytest.mark.parametrize("flags", range(64))
def test_only_nine_flag_sets_are_valid(flags):
    """spec/conntrack.md 1.3; PSH is masked, so each valid set counts with and without it."""
    letters = "".join(letter for bit, letter in enumerate("FSRP.U") if flags >> bit & 1)
    valid = set("".join(sorted(letters.replace("P", ""))) for letters in ("S", "SU", "S.", "R", "R.", "F.", "F.U", ".", ".U"))
    flow = Flow()
    for step in PATHS["ESTABLISHED"]:
        flow.send(*step)
    before = flow.table.stats()["invalid"]
    flow.send(0, letters, 1001, 5001)
    refused_for_its_flags = "".join(sorted(letters.replace("P", ""))) not in {"".join(sorted(v)) for v in valid}
    if refused_for_its_flags:
        assert flow.table.stats()["invalid"] == before + 1


def test_pickup_is_assured_at_the_third_packet():
    flow = Flow()
    assert [flow.send(0, ".", 1, 1), flow.send(1, ".", 1, 1), flow.send(0, ".", 1, 1)] == ["NEW", "ESTABLISHED", "ESTABLISHED"]
    assert flow.entry.status & 4 and flow.entry.timeout == 432000


def test_challenge_ack_in_last_ack():
    flow = Flow()
    for step in PATHS["LAST_ACK"]:
        flow.send(*step)
    assert flow.send(0, "S", 90000) == "ESTABLISHED"
    assert flow.send(1, ".", 5002, 1002) == "ESTABLISHED" and flow.entry.state_name == "LAST_ACK"
    assert flow.send(1, ".", 5002, 1002) == "ESTABLISHED" and flow.entry.state_name == "TIME_WAIT"


def test_ignored_syn_is_believed_when_it_is_answered():
    flow = Flow()
    for step in PATHS["ESTABLISHED"]:
        flow.send(*step)
    assert flow.send(0, "S", 90000) == "ESTABLISHED"
    assert flow.send(1, "S.", 70000, 90001) == "ESTABLISHED" and flow.entry.state_name == "SYN_RECV"
    flow.send(0, ".", 90001, 70001)
    assert flow.entry.state_name == "ESTABLISHED"


def test_rst_must_be_exact():
    for seq, klass, state in ((5001, "ESTABLISHED", "CLOSE"), (5002, "ESTABLISHED", "ESTABLISHED"), (5000, "INVALID", "ESTABLISHED")):
        flow = Flow()
        for step in PATHS["ESTABLISHED"]:
            flow.send(*step)
        assert flow.send(1, "R", seq) == klass and flow.entry.state_name == state, seq


def test_timeouts_of_a_stuck_connection():
    flow = Flow()
    for step in PATHS["ESTABLISHED"]:
        flow.send(*step)
    flow.send(0, "P.", 1001, 5001, data=b"hello")
    assert flow.entry.timeout == 300                    # unacknowledged data
    flow.send(1, ".", 5001, 1006)
    assert flow.entry.timeout == 432000
    flow.send(1, ".", 5001, 1006, win=0)
    assert flow.entry.timeout == 300                    # zero window
    for _ in range(4):
        flow.send(1, ".", 5001, 1006)
    assert flow.entry.timeout == 300                    # three identical ACKs


def test_bad_checksum_is_invalid_unless_told_otherwise_or_unfinished():
    for settings, more, klass in (({}, {}, "INVALID"), ({"checksum": 0}, {}, "NEW"), ({}, {"local": True}, "NEW"), ({}, {"skbinfo": 1}, "NEW")):
        flow = Flow(**settings)
        assert flow.table.process(tcp(*flow.ends[0], "S", bad=True), flow.now, **more)[0] == klass


def test_cut_packet_is_taken_as_good_and_counted():
    flow = Flow()
    data = tcp(*flow.ends[0], ".", seq=1, ack=1, data=b"x" * 100, bad=True)
    assert flow.table.process(data[:60], flow.now, total=len(data))[0] == "NEW"
    assert flow.table.stats()["csum_unchecked"] == 1


def test_explain_prints_the_table_that_is_used():
    text = table.explain()
    assert text.count("SYN_SENT2") >= 4 and "invalid" in text and "ignored" in text
    assert len(table.flat()) == 2 * 6 * 10
