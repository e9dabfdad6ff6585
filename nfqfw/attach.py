"""Our base chains and queue rules, in and out of the kernel.

Overview: `table inet nfqfw` has one base chain per hook, all with policy accept.  A chain diverts (its one rule queues every
packet, fail closed: with nobody on the queue the kernel drops) or is empty.  PREROUTING and OUTPUT come before the kernel's own
defragmentation (-400), so that we see original fragments; POSTROUTING after everything.

Life-cycle: bind the queues, then `attach`; `set_hooks` while live adds and removes rules only; `detach` removes rules, drains the queues,
then removes the table.  Removing any base chain drops every packet that waits in any queue of the namespace, other programs' too,
so that is done last and once.  A killed process leaves the table, which then drops all it diverts; `attach` adopts it.

Others may break it: `nft flush ruleset`, as a restart of the nftables service does, removes our table with all others, and
everything would pass unjudged.  A `Guard` hears of such changes and puts back what is missing within milliseconds.

Each change is one nfnetlink batch: the kernel does all of it or nothing.  No program is called (shims may stand first in PATH).
Everything acts on the network namespace of the thread that made the Attachment.
"""

import errno
import os
import select
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from nfqfw import _nfnetlink as nft
from nfqfw._netlink import NetlinkError, NetlinkSocket
from nfqfw.errors import NfqfwError

TABLE = "nfqfw"
COMMENT = "nfqfw: diverts to the firewall process; 'nfqfw down' removes it"
HOOKS = {                       # name of hook and chain: number (NF_INET_*), priority
    "PREROUTING": (0, -450),
    "INPUT": (1, 0),
    "FORWARD": (2, 0),
    "OUTPUT": (3, -450),
    "POSTROUTING": (4, 300),
}
WAY_OUT = (("PREROUTING", "OUTPUT"), ("INPUT", "FORWARD"), ("POSTROUTING",))      # the order of hooks on a packet's path
QUEUES_FILE = Path("/proc/thread-self/net/netfilter/nfnetlink_queue")
EXPRESSIONS = (nft.xt_nfqueue, nft.nft_queue)   # tried in this order
NO_EXPRESSION = {errno.ENOENT, errno.EOPNOTSUPP}        # of a rule: the kernel does not know its expression or target
OTHER_CHAIN = {errno.EEXIST, errno.EOPNOTSUPP, errno.EINVAL, errno.EBUSY}   # of a chain: one with another hook is there


@dataclass(frozen=True)
class QueueOwner:
    """One line of /proc/net/netfilter/nfnetlink_queue: a queue that a socket has bound."""

    queue: int
    portid: int                 # of the netlink socket; often, not always, the process id
    waiting: int                # packets without a verdict
    copy_mode: int
    copy_range: int             # bytes
    queue_dropped: int          # the queue was full
    user_dropped: int           # the socket's buffer was full
    id_sequence: int            # id of the last packet


class Attachment:
    """Our table in the kernel.  Made by `attach` and `find`; a context manager that only closes the socket."""

    def __init__(self, queue: int = 0, queues: int = 1):
        self.queue = queue
        self.queues = queues
        self._socket = _open()
        self._lock = threading.RLock()          # one user of the socket at a time; the guard repairs between changes
        self._wanted: frozenset[str] | None = None      # hooks that shall divert; None: not ours to defend

    def __enter__(self) -> "Attachment":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Let the socket go; what is in the kernel stays."""
        self._socket.close()

    @property
    def hooks(self) -> frozenset[str]:
        """The hooks that divert now, as the kernel says."""
        with self._lock:
            return frozenset(rule.chain for rule in nft.rules(self._socket, TABLE) if rule.queue is not None)

    def set_hooks(self, hooks: Iterable[str]) -> None:
        """Make exactly these hooks divert, in one batch, without touching a base chain: no waiting packet is lost."""
        wanted = _known(hooks)
        with self._lock:
            present = self.hooks
            self._queueing(lambda expression: [
                *(nft.flush_chain(TABLE, hook) for hook in HOOKS if hook in present - wanted),
                *(nft.new_rule(TABLE, hook, expression, COMMENT) for hook in HOOKS if hook in wanted - present),
            ])
            self._wanted = wanted

    def repair(self) -> frozenset[str]:
        """Put back what somebody else removed; the hooks that had not been diverted any more."""
        with self._lock:
            missing = (self._wanted or frozenset()) - self.hooks
            if missing:
                self._install(self._wanted)
            return missing

    def remove_rules(self, hooks: Iterable[str] = tuple(HOOKS)) -> None:
        """Divert these hooks no more; packets that wait stay in their queues.  Fine if the table is gone."""
        with self._lock:
            self._wanted = None
            if nft.has_table(self._socket, TABLE):
                self._commit([nft.flush_chain(TABLE, hook) for hook in hooks])

    def remove_table(self) -> None:
        """Remove the empty table.  The kernel then drops whatever waits in any queue of this namespace."""
        try:
            with self._lock:
                self._wanted = None
                self._commit([nft.delete_table(TABLE)])
        except NfqfwError as error:
            if not isinstance(error.__cause__, NetlinkError) or error.__cause__.errno != errno.ENOENT:
                raise

    def detach(self, drain: Callable[[], object] = lambda: None) -> None:
        """Rules off, `drain()` (the caller judges what waits), table off, socket closed.

        From the first hook of a packet's path to the last, each followed by a drain: a packet that waits at PREROUTING still
        finds FORWARD diverted, where the rule that drops it is.
        """
        present = self.hooks
        for hooks in WAY_OUT:
            if present.intersection(hooks):
                self.remove_rules(hooks)
                drain()
        self.remove_rules()
        self.remove_table()
        self.close()

    # ---- the parts of attach ------------------------------------------------------------------------------------------

    def _install(self, hooks: frozenset[str]) -> None:
        """Table, all base chains, rules; a table that is there is taken over in the same batch, without a gap."""
        try:
            self._queueing(lambda expression: _layout(hooks, expression))
        except NfqfwError as error:
            if not _is_other_layout(error) or not nft.has_table(self._socket, TABLE):
                raise
            self._queueing(lambda expression: [nft.delete_table(TABLE), *_layout(hooks, expression)])
        self._wanted = hooks

    def _queueing(self, batch: Callable[[bytes], list[nft.Message]]) -> None:
        """Commit the batch with the first queueing expression that this kernel knows."""
        for make in EXPRESSIONS:
            messages = batch(make(self.queue, self.queues))
            try:
                return self._commit(messages)
            except NfqfwError as error:
                if not _is_missing_expression(error, messages):
                    raise
        raise NfqfwError("this kernel can neither run the NFQUEUE target under nf_tables nor the 'queue' expression",
                         "load or build the modules nft_compat and xt_NFQUEUE, or nft_queue")

    def _commit(self, messages: list[nft.Message]) -> None:
        try:
            nft.commit(self._socket, messages)
        except NetlinkError as error:
            raise explain(error) from error


class Guard:
    """A thread that repairs an attachment when another program's change of nf_tables has damaged it.

    on_repair(hooks) is called in that thread after each repair; on_failure(error) when it was not possible, which ends the guard.
    Packets that crossed between the damage and the repair were not judged: say so.
    """

    def __init__(self, attachment: Attachment, on_repair: Callable[[frozenset[str]], object],
                 on_failure: Callable[[NfqfwError], object]):
        self._attachment = attachment
        self._on_repair = on_repair
        self._on_failure = on_failure
        self._news = _open()
        self._news.join(nft.CHANGES_GROUP)
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="nfqfw-guard", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and wait for it."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._news.close()
        os.close(self._stop)

    def _run(self) -> None:
        waiting = select.poll()
        for descriptor in (self._news.socket.fileno(), self._stop):
            waiting.register(descriptor, select.POLLIN)
        while True:
            if self._stop in dict(waiting.poll()):
                return
            self._drain()
            try:
                repaired = self._attachment.repair()
            except InterruptedError:
                continue                        # still changing: more news is waiting
            except NfqfwError as error:
                return self._on_failure(error)
            except NetlinkError as error:
                return self._on_failure(explain(error))
            if repaired:
                self._on_repair(repaired)

    def _drain(self) -> None:
        """What the news says does not matter, the kernel is asked; and lost news (ENOBUFS) is news too."""
        while True:
            try:
                self._news.socket.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise


def attach(hooks: Iterable[str], queue: int = 0, queues: int = 1) -> Attachment:
    """Divert these hooks to queues queue … queue + queues - 1 (balanced by address), adopting a table that is there.

    Bind the queues before: from this call on the kernel drops what nobody reads.  Raises NfqfwError, nothing changed then.
    """
    wanted = _known(hooks)
    if not (0 <= queue and 1 <= queues and queue + queues <= 65536):
        raise NfqfwError(f"queues {queue} to {queue + queues - 1} are not within 0 to 65535")
    attachment = Attachment(queue, queues)
    try:
        attachment._install(wanted)
    except BaseException:
        attachment.close()
        raise
    return attachment


def find() -> Attachment | None:
    """The table that is in this namespace, with the queues of its rules, or None.  Raises NfqfwError."""
    attachment = Attachment()
    try:
        if nft.has_table(attachment._socket, TABLE):
            for rule in nft.rules(attachment._socket, TABLE):
                if rule.queue is not None:
                    attachment.queue, attachment.queues = rule.queue, rule.queues
            return attachment
    except NetlinkError as error:
        attachment.close()
        raise explain(error) from error
    attachment.close()
    return None


def queue_owners(path: Path = QUEUES_FILE) -> dict[int, QueueOwner]:
    """The bound queues of this namespace by number.  Empty also where the kernel has no NFQUEUE at all."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    owners = (QueueOwner(*map(int, line.split()[:8])) for line in lines)
    return {owner.queue: owner for owner in owners}


def explain(error: OSError) -> NfqfwError:
    """What a refusal of nf_tables means to the user."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return NfqfwError("not allowed to change the packet filter of this network namespace",
                          "run as root, or with CAP_NET_ADMIN in the user namespace that owns the network namespace")
    if error.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
        return NfqfwError("this kernel has no netfilter netlink", "use a kernel with CONFIG_NETFILTER_NETLINK and CONFIG_NF_TABLES")
    if error.errno == errno.EOPNOTSUPP:
        return NfqfwError("this kernel has no nf_tables for the inet family",
                          "load the module nf_tables, or use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET")
    return NfqfwError(f"the kernel refused the table 'inet {TABLE}': {error.strerror}",
                      f"see 'nft list table inet {TABLE}'; 'nfqfw down' removes it")


def _open() -> NetlinkSocket:
    try:
        return NetlinkSocket(nft.NETLINK_NETFILTER)
    except OSError as error:
        raise explain(error) from error


def _known(hooks: Iterable[str]) -> frozenset[str]:
    wanted = frozenset(hooks)
    if unknown := wanted - HOOKS.keys():
        raise ValueError(f"no such hook: {', '.join(sorted(unknown))}")
    return wanted


def _layout(hooks: frozenset[str], expression: bytes) -> list[nft.Message]:
    messages = [nft.new_table(TABLE)]
    for hook, place in HOOKS.items():
        messages += [nft.new_base_chain(TABLE, hook, *place), nft.flush_chain(TABLE, hook)]
    return messages + [nft.new_rule(TABLE, hook, expression, COMMENT) for hook in HOOKS if hook in hooks]


def _refused(error: NfqfwError, messages: list[nft.Message] | None = None) -> tuple[int, int]:
    """(errno, message kind) of what the kernel refused."""
    cause = error.__cause__
    if not isinstance(cause, NetlinkError):
        return 0, -1
    return cause.errno, messages[cause.index][0] & 0xFF if messages else -1


def _is_missing_expression(error: NfqfwError, messages: list[nft.Message]) -> bool:
    number, kind = _refused(error, messages)
    return number in NO_EXPRESSION and kind == nft.NEWRULE


def _is_other_layout(error: NfqfwError) -> bool:
    return _refused(error)[0] in OTHER_CHAIN
