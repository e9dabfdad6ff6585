"""Settings on command lines and in files: what is read, and where a mistake is said to be."""

import pytest

from nfqfw.cli.settings import chosen
from nfqfw.errors import NfqfwError


@pytest.mark.parametrize("text, wanted", [
    ("nf_conntrack_udp_timeout=5", {"nf_conntrack_udp_timeout": 5}),
    ("net.netfilter.nf_conntrack_udp_timeout = 0x10", {"nf_conntrack_udp_timeout": 16}),
    ("net/netfilter/nf_conntrack_tcp_loose=0", {"nf_conntrack_tcp_loose": 0})])
def test_one_assignment(text, wanted):
    assert chosen((text,), None) == wanted


@pytest.mark.parametrize("text, message", [
    ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout: no value"), ("nf_conntrack_udp_timeout=", "nf_conntrack_udp_timeout: '' is not a number"),
    ("nf_conntrack_tcp_loose=2", "nf_conntrack_tcp_loose: 2 is not in 0..1"), ("nf_conntrack_foo=1", "nf_conntrack_foo: no such setting"),
    ("nf_conntrack_count=1", "nf_conntrack_count: read-only"), ("tcp_timeout_syn_sent2=1", "tcp_timeout_syn_sent2: no such setting"),
    ("nf_conntrack_udp_timeout=-1", "nf_conntrack_udp_timeout: -1 is not in 0..21474836")])
def test_a_mistake(text, message):
    with pytest.raises(NfqfwError) as caught:
        chosen((text,), None)
    assert (str(caught.value), caught.value.code) == (message, 2)


def test_a_file(tmp_path):
    """Comments, blanks, either spelling; the command line comes last; the error names line and column of the value."""
    file = tmp_path / "nfqfw.conf"
    file.write_text("# one\n; two\n\nnet.netfilter.nf_conntrack_udp_timeout = 7\nnf_conntrack_acct=1\n")
    assert chosen(("nf_conntrack_acct=0",), file) == {"nf_conntrack_udp_timeout": 7, "nf_conntrack_acct": 0}
    file.write_text("nf_conntrack_acct=1\n  nf_conntrack_acct =  5\n")
    with pytest.raises(NfqfwError, match=r"nfqfw.conf:2:24: nf_conntrack_acct: 5 is not in 0..1"):
        chosen((), file)
    with pytest.raises(NfqfwError, match="No such file"):
        chosen((), tmp_path / "none")
