"""The nfct command: what nfct 1.4.7 does with the subsystem `timeout`, on policies of ours.

    result = run(["add", "timeout", "short", "inet", "tcp", "established", "100"], policies)

`policies` is a PolicyList or a TimeoutPolicies; `in_use` names those that rules name.  Besides the tool's own commands `--save`
prints the policies as lines that `load` reads (`nfqfw up --nfct FILE`): commands with or without the program's name.
"""

from __future__ import annotations

import errno
import os
import shlex
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from nfqfw.conntrack.timeouts import TRACKERS, Policy, Tracker, cut, kept_seconds
from nfqfw.errors import NfqfwError
from nfqfw.ext.timeouts import GENERIC, NAME_BYTES
from nfqfw.files import read_bytes
from nfqfw.limits import POLICY_FILE_BYTES

PROGRAM = "nfct v1.4.7"
USAGE = "Usage: nfct command subsystem [parameters]...\n"
VERSION = (f"{PROGRAM}: utility for the Netfilter's Connection Tracking System\n"
           "Copyright (C) 2012 Pablo Neira Ayuso <pablo@netfilter.org>\n"
           "This program comes with ABSOLUTELY NO WARRANTY.\n"
           "This is free software, and you are welcome to redistribute it under certain \n"
           "conditions; see LICENSE file distributed in this package for details.\n")
FAMILIES = {"inet": 2, "inet6": 10}
FAMILY_WORDS = {number: word for word, number in FAMILIES.items()}
PROTOCOL_WORDS = {6: "tcp", 17: "udp", 136: "udplite", 1: "icmp", 58: "icmpv6", 47: "gre", 132: "sctp", GENERIC: "generic"}
OWN_PROTOCOLS = {"generic": GENERIC, "icmpv6": 58}     # words of the tool; all others are those of getprotobyname(3)
DCCP_STATES = ("REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT")     # the tool knows them, the kernel no longer
FAILED = 1


class Result(NamedTuple):
    """What the tool would print and return."""

    stdout: str = ""
    stderr: str = ""
    code: int = 0


class Refused(Exception):
    """The tool's words for what is wrong, without its name in front; `tail` comes as it is behind them."""

    def __init__(self, text: str, tail: str = ""):
        super().__init__(text)
        self.tail = tail


def kernel_says(number: int) -> Refused:
    return Refused(f"netlink error: {os.strerror(number)}")


@dataclass
class Job:
    """One run: what was given, and what was said so far."""

    given: list[str]            # behind command and subsystem
    policies: object
    in_use: Collection[str]
    out: list[str] = field(default_factory=list)


def run(argv: list[str], policies, in_use: Collection[str] = ()) -> Result:
    """Run one command line (without the program's name)."""
    if argv == ["--save"]:
        return Result("".join(save_line(policy) + "\n" for policy in policies.list()))
    if len(argv) < 2:
        return Result("", USAGE, FAILED)
    try:
        command, subsystem = words(argv)
        if subsystem == "version":
            return Result(VERSION)
        if subsystem != "timeout":
            raise Refused("helpers in other processes are not possible with nfqfw")
        if command not in COMMANDS:
            raise Refused("Missing command", "nfct <list|add|delete|get|default-set|default-get|flush> timeout [<parameters>, ...]\n")
        job = Job(argv[2:], policies, in_use)
        COMMANDS[command](job)
    except Refused as refused:
        return Result("", f"{PROGRAM}: {refused}\n{refused.tail}", FAILED)
    return Result("".join(job.out))


def words(argv: list[str]) -> tuple[str, str]:
    """Command and subsystem, which may stand in either order and be cut short: the first of the list that it begins is meant."""
    subsystem = begun(argv[0], SUBSYSTEMS)
    if subsystem:
        command = begun(argv[1], COMMAND_WORDS)
        if not command:
            raise Refused(f"Unknown command: {argv[0]}", USAGE)
        return command, subsystem
    command, subsystem = begun(argv[0], COMMAND_WORDS), begun(argv[1], SUBSYSTEMS)
    if not command or not subsystem:
        raise Refused(f"Unknown subsystem: {argv[0]}", USAGE)
    return command, subsystem


def begun(word: str, table: tuple[str, ...]) -> str:
    return next((name for name in table if name.startswith(word)), "")


# ---- commands ----------------------------------------------------------------------------------------------------------

def do_list(job: Job) -> None:
    no_more(job, 0)
    job.out += [text(policy) for policy in job.policies.list()]


def do_get(job: Job) -> None:
    policy = named(job)
    if policy is None:
        raise kernel_says(errno.ENOENT)
    job.out.append(text(policy))


def do_delete(job: Job) -> None:
    policy = named(job)
    if policy is None:
        raise kernel_says(errno.ENOENT)
    if policy.name in job.in_use:
        raise kernel_says(errno.EBUSY)
    job.policies.delete(policy.name)


def do_flush(job: Job) -> None:
    """Those that rules name stay."""
    no_more(job, 0)
    for policy in job.policies.list():
        if policy.name not in job.in_use:
            job.policies.delete(policy.name)


def do_add(job: Job) -> None:
    if len(job.given) < 3:
        raise Refused("missing parameters", "syntax: nfct add timeout name family protocol state1 timeout1 ...\n")
    name, *rest = job.given
    family, proto, given = parameters(rest)
    if not given:
        raise kernel_says(errno.EINVAL)
    name = cut(name)
    if job.policies.get(name) is not None:
        raise kernel_says(errno.EBUSY)
    tracker = followed(proto)
    try:
        job.policies.add(Policy(name, family, proto, mixed(job.policies.defaults(tracker), given)))
    except OSError as error:
        raise kernel_says(error.errno or errno.ENOMEM) from None


def do_default_set(job: Job) -> None:
    if len(job.given) < 3:
        raise Refused("missing parameters", "syntax: nfct default-set timeout family protocol state1 timeout1...\n")
    _, proto, given = parameters(job.given)
    tracker = followed(proto)
    job.policies.set_defaults(tracker, mixed(job.policies.defaults(tracker), given))


def do_default_get(job: Job) -> None:
    if len(job.given) < 2:
        raise Refused("missing parameters", "syntax: nfct default-get timeout family protocol\n")
    family, proto = layers(*job.given[:2])
    job.out.append(body(Policy("", family, proto, job.policies.defaults(followed(proto)))))


COMMANDS: dict[str, Callable[[Job], None]] = {
    "list": do_list, "add": do_add, "delete": do_delete, "get": do_get, "flush": do_flush, "default-set": do_default_set,
    "default-get": do_default_get}
COMMAND_WORDS = (*COMMANDS, "disable")
SUBSYSTEMS = ("timeout", "helper", "version")


# ---- parameters --------------------------------------------------------------------------------------------------------

def named(job: Job) -> Policy | None:
    if not job.given:
        raise Refused("missing timeout policy name")
    no_more(job, 1)
    return job.policies.get(cut(job.given[0]))


def no_more(job: Job, most: int) -> None:
    if len(job.given) > most:
        raise Refused("too many arguments")


def layers(family: str, protocol: str) -> tuple[int, int]:
    """Numbers of a family and a protocol."""
    if family not in FAMILIES:
        raise Refused("unknown layer 3 protocol")
    if protocol in OWN_PROTOCOLS:
        return FAMILIES[family], OWN_PROTOCOLS[protocol]
    try:
        return FAMILIES[family], socket.getprotobyname(protocol)
    except (OSError, ValueError):
        raise Refused("unknown layer 4 protocol") from None


def parameters(given: list[str]) -> tuple[int, int, dict[int, int]]:
    """(family, protocol, seconds by place among the protocol's states) of `family protocol state1 timeout1 ...`."""
    family, proto = layers(*given[:2])
    states = DCCP_STATES if proto == 33 else TRACKERS[proto].states if proto in TRACKERS else ()
    seconds: dict[int, int] = {}
    for at in range(2, len(given), 2):
        if at + 1 == len(given):
            raise Refused("missing value for this timeout")
        if given[at].upper() not in states:
            raise Refused(f"Wrong state name: `{given[at]}' for protocol `{given[1]}'")
        seconds[states.index(given[at].upper())] = kept_seconds(number(given[at + 1]))
    return family, proto, seconds


def number(word: str) -> int:
    """As strtol(3) reads it: what is no digit ends it, and is nothing by itself."""
    word = word.lstrip(" \t\n\v\f\r")
    sign = -1 if word.startswith("-") else 1
    digits = word[1:] if word[:1] in ("-", "+") else word
    length = next((i for i, c in enumerate(digits) if c not in "0123456789"), len(digits))
    digits = digits[:length].lstrip("0")
    return max(-2**63, min(2**63 - 1, sign * int(digits[:20] or "0")))


def followed(proto: int) -> Tracker:
    if proto not in TRACKERS:
        raise kernel_says(errno.EOPNOTSUPP)
    return TRACKERS[proto]


def mixed(seconds: tuple[int, ...], given: dict[int, int]) -> tuple[int, ...]:
    return tuple(given.get(place, value) for place, value in enumerate(seconds))


# ---- text --------------------------------------------------------------------------------------------------------------

def text(policy: Policy) -> str:
    return f".{policy.name} = {{\n{body(policy)}"


def body(policy: Policy) -> str:
    lines = "".join(f"\t\t.{state} = {seconds},\n" for state, seconds in zip(TRACKERS[policy.proto].states, policy.seconds, strict=False))
    return f"\t.l3proto = {policy.family},\n\t.l4proto = {policy.proto},\n\t.policy = {{\n{lines}\t}},\n}};\n"


def save_line(policy: Policy) -> str:
    """The command that makes the policy again."""
    pairs = (word for state, seconds in zip(TRACKERS[policy.proto].states, policy.seconds, strict=False) for word in (state.lower(), str(seconds)))
    return shlex.join(["add", "timeout", policy.name, FAMILY_WORDS[policy.family], PROTOCOL_WORDS[policy.proto], *pairs])


# ---- files -------------------------------------------------------------------------------------------------------------

def load_file(path, policies) -> None:
    """Run the commands of a file; NfqfwError says why it cannot be had, or names the first line that is refused."""
    load(read_bytes(path, POLICY_FILE_BYTES, "a file", "keep only nfct commands in it").decode("utf-8", "surrogateescape"), str(path), policies)


def load(text: str, name: str, policies) -> None:
    """Run the commands of a text, one a line; # begins a comment.  NfqfwError names the first line that is refused."""
    lines = text.replace("\r\n", "\n").split("\n")           # not splitlines: a form feed may be in a name
    at = 0
    while at < len(lines):
        try:
            argv, count = quoted_words(lines, at)
            if argv[:1] == ["nfct"]:
                del argv[0]
            result = run(argv, policies) if argv else Result()
        except ValueError as error:                         # a quote that does not end
            result = Result("", str(error), FAILED)
        if result.code:
            column = len(lines[at]) - len(lines[at].lstrip()) + 1
            raise NfqfwError(f"{name}:{at + 1}:{column}: {result.stderr.strip().replace(chr(10), '; ')}",
                             "a line is: add timeout NAME inet|inet6 PROTOCOL STATE SECONDS ...", 2)
        at += count


def quoted_words(lines: list[str], at: int) -> tuple[list[str], int]:
    """Words of the command that begins at a line, and its lines: a quoted name goes on over as many line ends as a name can have."""
    for count in range(1, min(NAME_BYTES + 1, len(lines) - at) + 1):
        try:
            return shlex.split("\n".join(lines[at:at + count]), comments=True), count
        except ValueError as error:
            failure = error
    raise failure
