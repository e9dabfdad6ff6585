"""The TCP state machine: 9 states x 2 directions x 6 kinds of packet, IPv4 and IPv6, on the kernel and on us.

The table is the measured one of the specification (Linux 6.18): class and state that the packet leaves; `=` the state stays,
`gone` the entry is deleted.  Sequence numbers fit: windows are the business of other flows.
"""

import pytest

from nfqfw.selftest import kernel as twin
from nfqfw.selftest.flow import disappointments, parse_flow
from nfqfw.selftest.ours import OurTwin
from nfqfw.selftest.outcome import differences

pytestmark = [pytest.mark.netns, pytest.mark.skipif(bool(twin.missing()), reason=f"kernel twin: {twin.missing()}")]

# state -> (packets that bring it about, client's next sequence number, server's)
OPEN = ("client tcp S 100:101(0)", "server tcp S. 500:501(0) ack 101", "client tcp . 101:101(0) ack 501")
FIN = (*OPEN, "client tcp F. 101:102(0) ack 501")
HALF = (*FIN, "server tcp . 501:501(0) ack 102")
LAST = (*HALF, "server tcp F. 501:502(0) ack 102")
STATES = {
    "SYN_SENT": (OPEN[:1], 101, 500), "SYN_RECV": (OPEN[:2], 101, 501), "ESTABLISHED": (OPEN, 101, 501), "FIN_WAIT": (FIN, 102, 501),
    "CLOSE_WAIT": (HALF, 102, 501), "LAST_ACK": (LAST, 102, 502), "TIME_WAIT": ((*LAST, "client tcp . 102:102(0) ack 502"), 102, 502),
    "CLOSE": ((*OPEN, "client tcp R. 101:101(0) ack 501"), 101, 501),
    "SYN_SENT2": ((OPEN[0], "server tcp S 500:501(0)"), 101, 501),
}
FLAGS = {"syn": "S", "syn+ack": "S.", "fin": "F.", "ack": ".", "rst": "R.", "none": "-"}

#                   SYN_SENT      SYN_RECV       ESTABLISHED    FIN_WAIT      CLOSE_WAIT    LAST_ACK     TIME_WAIT     CLOSE         SYN_SENT2
CELLS = {
    ("client", "syn"):     "N =          | E =          | E =          | E =          | E =          | E =         | N SYN_SENT  | N SYN_SENT  | E SYN_SENT2",
    ("client", "syn+ack"): "I =          | E SYN_RECV   | I =          | I =          | I =          | I =         | I =         | I =         | E SYN_RECV",
    ("client", "fin"):     "I =          | E FIN_WAIT   | E FIN_WAIT   | E LAST_ACK   | E LAST_ACK   | E LAST_ACK  | E TIME_WAIT | E CLOSE     | I =",
    ("client", "ack"):     "I =          | E ESTABLISHED| E ESTABLISHED| E CLOSE_WAIT | E CLOSE_WAIT | E TIME_WAIT | E TIME_WAIT | E CLOSE     | I =",
    ("client", "rst"):     "N gone       | E CLOSE      | E CLOSE      | E CLOSE      | E CLOSE      | E CLOSE     | E CLOSE     | E CLOSE     | E CLOSE",
    ("client", "none"):    "I =          | I =          | I =          | I =          | I =          | I =         | I =         | I =         | I =",
    ("server", "syn"):     "E SYN_SENT2  | I =          | I =          | I =          | I =          | I =         | N SYN_SENT  | I =         | E SYN_SENT2",
    ("server", "syn+ack"): "E SYN_RECV   | E =          | E =          | E =          | E =          | E =         | E =         | E =         | E SYN_RECV",
    ("server", "fin"):     "I =          | E FIN_WAIT   | E FIN_WAIT   | E LAST_ACK   | E LAST_ACK   | E LAST_ACK  | E TIME_WAIT | E CLOSE     | I =",
    ("server", "ack"):     "E =          | E SYN_RECV   | E ESTABLISHED| E CLOSE_WAIT | E CLOSE_WAIT | E TIME_WAIT | E TIME_WAIT | E CLOSE     | E =",
    ("server", "rst"):     "E gone       | E CLOSE      | E CLOSE      | E CLOSE      | E CLOSE      | E CLOSE     | E CLOSE     | E CLOSE     | E CLOSE",
    ("server", "none"):    "I =          | I =          | I =          | I =          | I =          | I =         | I =         | I =         | I =",
}
CLASSES = {"N": "NEW", "E": "ESTABLISHED", "I": "INVALID"}
PARAMETERS = [(side, kind, state, cell.strip()) for (side, kind), row in CELLS.items()
              for state, cell in zip(STATES, row.split("|"), strict=True)]


def flow_of(side: str, kind: str, state: str, cell: str) -> str:
    before, client, server = STATES[state]
    seq, ack = (client, server) if side == "client" else (server, client)
    flags = FLAGS[kind]
    if state == "SYN_SENT" and side == "server":
        seq = 500
    if kind == "rst" and state == "SYN_SENT" and side == "client":
        flags = "R"                             # the other side has said nothing that could be acknowledged
    if flags == "S" and state in ("TIME_WAIT", "CLOSE"):
        seq = 90_000
    end = seq + ("S" in flags) + ("F" in flags)
    ctstate, after = cell.split()
    after = {"=": state, "gone": "none"}.get(after, after)
    last = f"{side} tcp {flags} {seq}:{end}(0)" + (f" ack {ack}" if "." in flags else "")
    return "\n".join(f"+0 {packet}" for packet in before) + f"\n+0 {last} ; {CLASSES[ctstate]} {after}\n"


@pytest.fixture(scope="module")
def twins():
    with twin.KernelTwin(classes=True) as kernel, OurTwin(classes=True) as ours:
        yield kernel, ours


def test_every_cell_is_there():
    assert len(PARAMETERS) == 9 * 2 * 6


@pytest.mark.parametrize("side, kind, state, cell", PARAMETERS, ids=lambda value: str(value).replace(" ", ""))
def test_cell(twins, side, kind, state, cell):
    for case in parse_flow(flow_of(side, kind, state, cell), f"{side} {kind} {state}"):
        theirs, mine = (t.run(case, states=True) for t in twins)
        assert disappointments(case, theirs) == [], "kernel"
        assert disappointments(case, mine) == [], "nfqfw"
        assert differences(theirs, mine) == []
