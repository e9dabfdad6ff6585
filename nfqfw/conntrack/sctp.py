"""SCTP: states, chunks and the table that joins them, as data.  RFC 9260; measured on Linux 6.18.44 (tests/conntrack/test_kernel.py).

As in tcp.py: `_memory` copies TABLE into its handle.  A cell is the next state or `iv` (class INVALID).  A chunk that has
no row (DATA, SACK, ...) leaves the state as it is, and starts no connection.
"""

STATES = ("NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD",
          "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT")
SHORT = ("no", "cl", "cw", "ce", "es", "ss", "sr", "sa", "hs", "iv")
CHUNKS = {"init": 1, "init_ack": 2, "abort": 6, "shutdown": 7, "shutdown_ack": 8, "error": 9, "cookie_echo": 10,
          "cookie_ack": 11, "shutdown_complete": 14, "heartbeat": 4, "heartbeat_ack": 5}

#                         NONE CLOSED C_WAIT C_ECHOED ESTABL SHUT_SENT SHUT_RECD SHUT_ACK HEARTBEAT
TABLE = {
    "original": {
        "init":              "cl   cl     cw     ce       es     cl        cl        sa       cw",
        "init_ack":          "cl   cl     cw     ce       es     ss        sr        sa       cl",
        "abort":             "iv   cl     cl     cl       cl     cl        cl        cl       cl",
        "shutdown":          "cl   cl     cw     ce       ss     ss        sr        sa       cl",
        "shutdown_ack":      "sa   cl     cw     ce       es     sa        sa        sa       sa",
        "error":             "cl   cl     cw     ce       es     ss        sr        sa       cl",
        "cookie_echo":       "cl   cl     ce     ce       es     ss        sr        sa       cl",
        "cookie_ack":        "iv   cl     cw     es       es     ss        sr        sa       cl",
        "shutdown_complete": "iv   cl     cw     ce       es     ss        sr        cl       cl",
        "heartbeat":         "hs   cl     cw     ce       es     ss        sr        sa       hs",
        "heartbeat_ack":     "cl   cl     cw     ce       es     ss        sr        sa       hs",
    },
    "reply": {
        "init":              "iv   cl     cw     ce       es     ss        sr        sa       iv",
        "init_ack":          "iv   cw     cw     ce       es     ss        sr        sa       iv",
        "abort":             "iv   cl     cl     cl       cl     cl        cl        cl       iv",
        "shutdown":          "iv   cl     cw     ce       sr     ss        sr        sa       iv",
        "shutdown_ack":      "iv   cl     cw     ce       es     sa        sa        sa       iv",
        "error":             "iv   cl     cw     cl       es     ss        sr        sa       iv",
        "cookie_echo":       "iv   cl     ce     ce       es     ss        sr        sa       iv",
        "cookie_ack":        "iv   cl     cw     es       es     ss        sr        sa       iv",
        "shutdown_complete": "iv   cl     cw     ce       es     ss        sr        cl       iv",
        "heartbeat":         "iv   cl     cw     ce       es     ss        sr        sa       hs",
        "heartbeat_ack":     "iv   cl     cw     ce       es     ss        sr        sa       es",
    },
}


def flat() -> bytes:
    """TABLE as bytes [direction][chunk row][state], a cell = its index in SHORT."""
    return bytes(
        SHORT.index(cell)
        for direction in ("original", "reply")
        for chunk in CHUNKS
        for cell in TABLE[direction][chunk].split()
    )


def rows() -> bytes:
    """Chunk type -> row of the table, 255 = it has none."""
    order = {number: row for row, number in enumerate(CHUNKS.values())}
    return bytes(order.get(number, 255) for number in range(256))


def crc32c_table() -> list[int]:
    """256 words of CRC-32C (Castagnoli, reflected), RFC 9260 appendix A."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


def explain() -> str:
    """The table as text: what `nfqfw conntrack --explain sctp` prints."""
    lines = []
    for direction, chunks in TABLE.items():
        lines.append(f"{direction:20}" + "".join(f"{state:>18}" for state in STATES))
        for chunk, row in chunks.items():
            cells = ("invalid" if cell == "iv" else STATES[SHORT.index(cell)] for cell in row.split())
            lines.append(f"  {chunk:18}" + "".join(f"{cell:>18}" for cell in cells))
        lines.append("")
    return "\n".join(lines)
