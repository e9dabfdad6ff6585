"""Masqueraded connections end with the address they use: when it is removed, and when its interface goes down.

As in the kernel, seen there (spec/conntrack.md 2): another address of the interface leaves them alone.  An address that is
removed and set again before the watcher has settled (_rtnetlink.SETTLE_SECONDS) was not missed by anyone.
"""

from __future__ import annotations

from collections.abc import Iterator

from nfqfw._nat import forget

IFF_UP = 1


def losses(before, now) -> Iterator[tuple[int, bytes | None]]:
    """(ifindex, address or None for the whole interface) that Host facts `now` lack of those before."""
    up = {link.index for link in now.interfaces if link.flags & IFF_UP}
    down = {link.index for link in before.interfaces if link.flags & IFF_UP and link.index not in up}
    for index in sorted(down):
        yield index, None
    kept = {(a.ifindex, a.address) for a in now.addresses}
    for a in before.addresses:
        if (a.ifindex, a.address) not in kept and a.ifindex not in down:
            yield a.ifindex, a.address.packed


def forget_masqueraded(table, before, now) -> int:
    """End the connections that lost their address; returns how many."""
    return sum(forget(table, index, address) for index, address in losses(before, now))
