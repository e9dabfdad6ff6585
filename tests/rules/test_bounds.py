"""How much a ruleset may be: beyond it there is a clear error, the old rules stay, and reading does not go on."""

import pytest

from nfqfw.errors import RuleErrors
from nfqfw.limits import MISTAKES_MAX
from nfqfw.rules import applet, load, restore, validate
from nfqfw.rules.store import MemoryStore

HEAD = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"
QUICK, SLOW = "-A INPUT -s 10.0.0.1/32 -j DROP\n", "-A INPUT --source 10.0.0.1 -j DROP\n"


@pytest.fixture
def few(monkeypatch):
    """A bound of 50 rules, so that a test of it is fast."""
    for module in (restore, validate):
        monkeypatch.setattr(module, "RULES_MAX", 50)


@pytest.mark.parametrize("lines", [QUICK, SLOW, QUICK + SLOW])
def test_rules(few, lines):
    fits = lines * (50 // lines.count("\n"))
    assert len(load(HEAD + fits + "COMMIT\n").table("filter").chains["INPUT"].rules) == 50
    with pytest.raises(RuleErrors) as caught:
        load(HEAD + fits + lines + lines + "COMMIT\n")
    assert [error.message for error in caught.value.errors] == ["more than 50 rules"]
    assert caught.value.errors[0].span.line == HEAD.count("\n") + 51


def test_restore_and_append(few):
    store = MemoryStore()
    assert applet.run(["iptables-restore"], store, HEAD + QUICK * 50 + "COMMIT\n").code == 0
    for argv, text in ((["iptables-restore"], HEAD + QUICK * 51 + "COMMIT\n"), (["iptables", "-A", "INPUT"], ""),
                       (["iptables", "-t", "nat", "-A", "OUTPUT"], ""), (["iptables", "-A", "INPUT", "-s", "1.1.1.1,2.2.2.2"], ""),
                       (["iptables-restore", "-n"], "*filter\n-A INPUT -s 1.1.1.1,2.2.2.2\nCOMMIT\n")):
        found = applet.run(argv, store, text)
        assert (found.code, "more than 50 rules" in found.stderr) == (4, True), (argv, found)
    assert len(store.ruleset(2).table("filter").chains["INPUT"].rules) == 50
    assert applet.run(["iptables", "-D", "INPUT", "1"], store).code == 0
    assert applet.run(["iptables", "-A", "INPUT"], store).code == 0


def test_mistakes():
    with pytest.raises(RuleErrors) as caught:
        load(HEAD + "-A INPUT -p tcp --dport 70000\n" * (MISTAKES_MAX + 500) + "COMMIT\n")
    assert len(caught.value.errors) == MISTAKES_MAX
