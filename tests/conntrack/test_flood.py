"""SYN flood: bounded memory, established flows unharmed, counters exact.  NFQFW_FLOOD=10000000 is the full size (half a minute)."""

import os

from nfqfw._conntrack import ConntrackTable
from nfqfw.conntrack import _drill

FLOOD = int(os.environ.get("NFQFW_FLOOD", "1000000")) // 64 * 64
LIMIT = 262_144 if FLOOD > 5_000_000 else 32_768
ESTABLISHED = 1000
NOW = 10**12


def test_flood_of_random_clients():
    table = ConntrackTable(LIMIT, 2 * LIMIT)
    _drill.establish(table, ESTABLISHED, NOW)
    before = table.stats()
    _, refused = _drill.flood(table, FLOOD, NOW, gap_ns=1000)
    after = {name: value - before[name] for name, value in table.stats().items()}
    assert table.count <= LIMIT
    assert _drill.classes(table, ESTABLISHED, NOW) == ESTABLISHED, "established flows must not be the ones that go"
    assert after["created"] + refused == FLOOD and after["insert"] == after["created"]
    assert refused == after["drop"] + after["chaintoolong"]
    assert after["created"] - after["deleted"] == table.count - ESTABLISHED
    assert after["early_drop"] <= after["deleted"] and after["insert_failed"] == 0
    assert os.fstat(table.arena.fd).st_blocks * 512 <= (2 * LIMIT + 100_000) * 200
