"""Netlink messages: bytes against the kernel's layout, and garbage in, nothing raised."""

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfqfw import _netlink, _rtnetlink
from nfqfw._netlink import NetlinkError, NetlinkSocket, attribute, attributes, error_of, nested, split, string


def test_attribute_bytes():
    """nla_len counts the header and not the padding; netlink(7)."""
    assert attribute(5, b"abc") == struct.pack("=HH", 7, 5) + b"abc\0"
    assert nested(2, attribute(1, b"")) == struct.pack("=HH", 8, 2 | 0x8000) + struct.pack("=HH", 4, 1)


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=8))
def test_attributes_read_what_was_written(items):
    data = b"".join(attribute(kind, payload) for kind, payload in items)
    assert list(attributes(data)) == items


@given(st.binary(max_size=200))
def test_garbage_ends_the_walk(data):
    """Invariant: parsing never raises, and never yields bytes that are not in the datagram."""
    assert sum(len(payload) + 4 for _, payload in attributes(data)) <= len(data)
    assert sum(len(body) + 16 for _, _, _, body in split(data)) <= len(data)
    string(data)


@given(st.binary(min_size=16, max_size=120))
def test_losses_of_whole_messages_never_raise(body):
    """A body is at least as long as its family's header: the kernel never sends less."""
    for kind in (_rtnetlink.NEWLINK, _rtnetlink.DELLINK):
        list(_rtnetlink.losses(_netlink.HEADER.pack(16 + len(body), kind, 0, 0, 0) + body))


def test_lossy_messages():
    def message(kind, body):
        return _netlink.HEADER.pack(16 + len(body), kind, 0, 0, 0) + body

    down = _rtnetlink.IFINFO.pack(0, 1, 7, 0, 1)
    up = _rtnetlink.IFINFO.pack(0, 1, 8, 1, 1)
    gone = _rtnetlink.IFADDR.pack(2, 32, 0, 0, 9) + attribute(1, bytes((192, 0, 2, 2))) + attribute(2, bytes((192, 0, 2, 1)))
    datagram = message(_rtnetlink.NEWLINK, down) + message(_rtnetlink.NEWLINK, up) + message(_rtnetlink.DELADDR, gone)
    assert list(_rtnetlink.losses(datagram)) == [(7, None), (9, bytes((192, 0, 2, 1)))]


def test_error_texts():
    assert error_of(struct.pack("=i", 0)) is None
    plain = error_of(struct.pack("=i", -errno.EPERM), 3)
    assert (plain.errno, plain.strerror, plain.index) == (errno.EPERM, "Operation not permitted", 3)
    assert error_of(struct.pack("=i", -errno.EINVAL) + attribute(1, b"no such thing\0")).strerror == "no such thing"


def test_the_kernels_own_words_are_kept():
    """RTM_GETLINK of an index that cannot be: the kernel answers with an errno; a dump goes on working after it."""
    with NetlinkSocket(_rtnetlink.NETLINK_ROUTE) as kernel:
        with pytest.raises(NetlinkError) as caught:
            kernel.batch([(_rtnetlink.GETLINK, _netlink.NLM_F_ACK, _rtnetlink.IFINFO.pack(0, 0, 0x7FFFFFF0, 0, 0))])
        assert caught.value.errno == errno.ENODEV
        names = [string(dict(attributes(body, 16))[3]) for _, body in kernel.dump(_rtnetlink.GETLINK, _rtnetlink.IFINFO.pack(0, 0, 0, 0, 0))]
        assert sorted(names) == sorted(name for _, name in socket.if_nameindex())


def test_a_batch_names_the_message_that_failed():
    with NetlinkSocket(_rtnetlink.NETLINK_ROUTE) as kernel:
        good = (_rtnetlink.GETLINK, _netlink.NLM_F_ACK, _rtnetlink.IFINFO.pack(0, 0, 1, 0, 0))
        bad = (_rtnetlink.GETLINK, _netlink.NLM_F_ACK, _rtnetlink.IFINFO.pack(0, 0, 0x7FFFFFF0, 0, 0))
        with pytest.raises(NetlinkError) as caught:
            kernel.batch([good, good, bad])
        assert caught.value.index == 2


def test_a_family_the_kernel_does_not_have():
    with pytest.raises(OSError):
        NetlinkSocket(200)
