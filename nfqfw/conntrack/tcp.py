"""TCP: states, packet kinds and the table that joins them, as data.

Measured on Linux 6.18.44 (spec/conntrack.md 1.4), all 108 cells.  `_memory` copies TABLE into its handle: the tracker,
the tests and `nfqfw conntrack --explain tcp` read the same rows.

A cell is the next state, or `iv` (class INVALID) or `ig` (let through, nothing changes).  Rules that no table can hold
(reopening, challenge ACK, RST validation, re-sync after an ignored SYN) stand in `tcp.pxd`, each with its reason.
"""

STATES = ("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2")
SHORT = ("no", "ss", "sr", "es", "fw", "cw", "la", "tw", "cl", "s2", "iv", "ig")
KINDS = ("syn", "synack", "fin", "ack", "rst", "none")       # precedence on the wire: rst, syn, fin, ack

#              NONE SYN_SENT SYN_RECV ESTABL FIN_WAIT CLOSE_WAIT LAST_ACK TIME_WAIT CLOSE SYN_SENT2
TABLE = {
    "original": {
        "syn":    "ss  ss       ig       ig     ig       ig         ig       ss        ss    s2",
        "synack": "iv  iv       sr       iv     iv       iv         iv       iv        iv    sr",
        "fin":    "iv  iv       fw       fw     la       la         la       tw        cl    iv",
        "ack":    "es  iv       es       es     cw       cw         tw       tw        cl    iv",
        "rst":    "iv  cl       cl       cl     cl       cl         cl       cl        cl    cl",
        "none":   "iv  iv       iv       iv     iv       iv         iv       iv        iv    iv",
    },
    "reply": {
        "syn":    "iv  s2       iv       iv     iv       iv         iv       ss        iv    s2",
        "synack": "iv  sr       ig       ig     ig       ig         ig       ig        ig    sr",
        "fin":    "iv  iv       fw       fw     la       la         la       tw        cl    iv",
        "ack":    "iv  ig       sr       es     cw       cw         tw       tw        cl    ig",
        "rst":    "iv  cl       cl       cl     cl       cl         cl       cl        cl    cl",
        "none":   "iv  iv       iv       iv     iv       iv         iv       iv        iv    iv",
    },
}

# flag bytes that a segment may carry once PSH, ECE and CWR are masked out
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
VALID_FLAGS = (SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG)


def flat() -> bytes:
    """TABLE as bytes [direction][kind][state], a cell = its index in SHORT."""
    return bytes(
        SHORT.index(cell)
        for direction in ("original", "reply")
        for kind in KINDS
        for cell in TABLE[direction][kind].split()
    )


def explain() -> str:
    """The table as text: what `nfqfw conntrack --explain tcp` prints."""
    lines = []
    for direction, rows in TABLE.items():
        lines.append(f"{direction:10}" + "".join(f"{state:>12}" for state in STATES))
        for kind, row in rows.items():
            cells = (_word(cell) for cell in row.split())
            lines.append(f"  {kind:8}" + "".join(f"{cell:>12}" for cell in cells))
        lines.append("")
    lines.append("invalid: class INVALID, nothing changes.  ignored: let through as ESTABLISHED, state and time-out stay.")
    lines.append("A SYN that meets TIME_WAIT or CLOSE deletes the entry and makes a new one if a side closed it in order, or reset it.")
    return "\n".join(lines) + "\n"


def _word(cell: str) -> str:
    return {"iv": "invalid", "ig": "ignored"}.get(cell) or STATES[SHORT.index(cell)]
