"""A lab whose firewall queues what it forwards, and helpers to run a queue in it."""

import contextlib
import os
import threading
import time

import pytest

from nfqfw.queue._nfnetlink import Queue

FORWARD_QUEUE = 3


def needs_root():
    if os.geteuid() != 0:
        pytest.skip("needs root: makes network namespaces")


class Network:
    """client - firewall - server; `divert` adds an NFQUEUE rule with the installed iptables, per chain and family."""

    def __init__(self, lab, lockfile):
        self.lab, self.client, self.firewall, self.server = lab, lab.client, lab.firewall, lab.server
        self._threads = {}
        self._environment = dict(os.environ, XTABLES_LOCKFILE=str(lockfile))

    def iptables(self, *arguments, family=4):
        program = "iptables-legacy" if family == 4 else "ip6tables-legacy"
        return self.firewall.run([program, *arguments], check=True, env=self._environment, timeout=20).stdout

    def divert(self, chain="FORWARD", number=FORWARD_QUEUE, table="filter"):
        for family in (4, 6):
            self.iptables("-t", table, "-I", chain, "-j", "NFQUEUE", "--queue-num", str(number), family=family)

    @contextlib.contextmanager
    def running(self, engine, number=FORWARD_QUEUE, start=True, transport=Queue, **options):
        """An open queue of the firewall with its loop in a thread."""
        queue = transport(number, **options)
        with self.firewall.entered():
            queue.open()
        queue.use(engine)
        thread = threading.Thread(target=queue.run, daemon=True)
        self._threads[queue] = thread
        if start:
            self.start(queue)
        try:
            yield queue
        finally:
            queue.stop()
            if thread.ident is not None:
                thread.join(5)
            assert not thread.is_alive()
            queue.close()

    def start(self, queue):
        """Start the loop of a queue opened with start=False."""
        self._threads[queue].start()

    def kernel_line(self, number=FORWARD_QUEUE):
        """Columns of /proc/net/netfilter/nfnetlink_queue, or None: waiting is 2, dropped 5, user dropped 6, last id 7."""
        with self.firewall.entered(), open("/proc/thread-self/net/netfilter/nfnetlink_queue") as table:
            for line in table:
                fields = [int(field) for field in line.split()]
                if fields[0] == number:
                    return fields
        return None

    @staticmethod
    def wait_for(condition, seconds=5):
        """True as soon as condition() is; False after `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(0.01)
        return bool(condition())


@pytest.fixture
def network(tmp_path):
    needs_root()
    from netns import Lab

    with Lab() as lab:
        yield Network(lab, tmp_path / "xtables.lock")
