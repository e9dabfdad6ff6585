"""Questions to the client: asked outside of transactions, once each, and a command takes effect once."""

from contextlib import contextmanager

import pytest

from nfqfw.daemon.applets import run_applet
from nfqfw.rules.store import MemoryStore


class Watched(MemoryStore):
    """Knows whether a transaction is open, and counts commits."""

    def __init__(self):
        super().__init__()
        self.open = False
        self.commits = 0

    @contextmanager
    def transaction(self, write):
        self.open = True
        try:
            yield
        finally:
            self.open = False

    def commit(self, changed, counted=False):
        self.commits += 1
        return super().commit(changed, counted)


class Client:
    """Answers like a terminal, and insists on not being waited for."""

    def __init__(self, store):
        self.store = store
        self.asked = []
        self.out = {1: b"", 2: b""}

    def ask(self, *question):
        assert not self.store.open, f"{question} asked inside a transaction"
        self.asked.append(question)

    def read(self, path):
        self.ask("read", path)
        if path == "missing":
            raise FileNotFoundError(2, "No such file or directory")
        return b"*filter\n-A INPUT -s gate.example -j DROP\n-A INPUT -s gate.example -j ACCEPT\nCOMMIT\n"

    def write(self, path, data):
        self.ask("write", path, data)

    def resolve(self, name, family):
        self.ask("resolve", name, family)
        return ["192.0.2.1", "192.0.2.2"] if name == "gate.example" else []

    def names(self, addresses):
        self.ask("names", *addresses)
        return ["gate.example" if address == "192.0.2.1" else None for address in addresses]

    def print(self, stream, data):
        self.out[stream] += data


@pytest.fixture
def client():
    return Client(Watched())


def run(client, *words):
    return run_applet(words[0], list(words[1:]), client.store, client)


def test_restore_asks_for_its_text_and_each_name_once(client):
    assert run(client, "iptables-restore") == 0
    assert client.asked == [("read", None), ("resolve", "gate.example", 2)]
    assert client.store.commits == 1
    assert len(client.store.ruleset(2).tables["filter"].chains["INPUT"].rules) == 4


def test_error_of_the_client_is_the_tools_error(client):
    assert run(client, "iptables-restore", "missing") == 1
    assert client.out[2] == b"Can't open missing: No such file or directory\n"
    assert client.store.commits == 0


def test_unknown_host(client):
    assert run(client, "iptables", "-A", "INPUT", "-s", "nosuch.example", "-j", "DROP") == 2
    assert b"host/network `nosuch.example' not found" in client.out[2]


def test_listing_with_zero_commits_once_and_has_names(client):
    run(client, "iptables-restore")
    client.asked.clear()
    assert run(client, "iptables", "-L", "INPUT", "-Z") == 0
    assert client.asked == [("names", "192.0.2.1", "192.0.2.2")]
    assert client.store.commits == 2
    assert client.out[1].count(b"DROP       all  --  gate.example         anywhere") == 1
    assert client.out[1].count(b"DROP       all  --  192.0.2.2            anywhere") == 1


def test_saved_file_is_the_clients(client):
    assert run(client, "iptables-save", "-t", "filter", "-f", "out") == 0
    kind, path, data = client.asked[0]
    assert (kind, path) == ("write", "out") and b"*filter\n:INPUT ACCEPT" in data
    assert client.out[1] == b""
