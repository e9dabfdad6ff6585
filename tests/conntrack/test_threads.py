"""Several queue threads and commands on one table at once: counts stay exact, nothing is lost, nothing is there twice."""

import threading
from collections import Counter

import pytest

from nfqfw._conntrack import ConntrackTable
from nfqfw.conntrack import _drill

NOW = 10**12
LIMIT = 5_000
PACKETS = 64 * 3000


def run_all(*jobs) -> None:
    failures = []

    def guarded(job):
        try:
            job()
        except BaseException as error:      # noqa: BLE001: told to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures and not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("round_", range(3))
def test_same_new_flows_on_every_thread(round_):
    """Each thread floods with the same clients and touches the same flows while entries are listed, changed and deleted."""
    table = ConntrackTable(LIMIT, 4 * LIMIT, index_for=640)

    def meddle():
        for n in range(30):
            entries = table.list(now_ns=NOW)
            for entry in entries[:: 1 + n % 7]:
                if n % 2:
                    table.delete(entry.number, entry.id)
                else:
                    table.change(entry.number, entry.id, mark=n)
            if n == 10:
                table.set("nf_conntrack_max", 3 * LIMIT)
                table.set("nf_conntrack_max", LIMIT)

    flood = lambda: _drill.flood(table, PACKETS, NOW, gap_ns=10, seed=round_)       # noqa: E731
    touch = lambda: _drill.touch(table, LIMIT, PACKETS, NOW, True, True, round_)    # noqa: E731
    run_all(flood, flood, touch, touch, meddle)
    stats = table.stats()
    entries = table.list(unconfirmed=True, now_ns=NOW)
    assert stats["created"] - stats["deleted"] == table.count == len(entries)
    assert table.count <= LIMIT + 5, "each thread may be one over before it sees the limit"
    twice = [key for key, n in Counter((e.original.src, e.original.sport, e.status & 8) for e in entries).items() if n > 1]
    assert not twice
    table.expire(NOW + 10**15)
    assert table.count == 0


def test_the_collector_leaves_new_entries_alone():
    """One being made on another thread has no start yet; it looked as if it were there since the machine's start."""
    table = ConntrackTable(LIMIT, 256, index_for=640)
    over = threading.Event()
    ended = []

    def make():
        try:
            ended.append(_drill.half_open(table, 12_000, NOW))
        finally:
            over.set()

    def collect():
        while not over.is_set():
            table.expire(NOW)

    run_all(make, collect)
    assert ended == [0]
    assert table.count == 0 and table.stats()["created"] == table.stats()["deleted"] == 64 * 12_000
