"""The conntrack command: what conntrack 1.4.7 does, on a table of ours.

    result = run(["-L", "-p", "tcp"], table, now_ns=time.monotonic_ns())
    print(result.stdout, end="")

`table` is a ConntrackTable or anything with its list, insert, change, delete, flush, count, stats.  No I/O but the file that
-R names, and that goes through `read`.  -E gives the Follow that `follow` turns each event into text with.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nfqfw.conntrack import expectation, listing, sctp, tcp
from nfqfw.conntrack.entry import DST_NAT, SRC_NAT, Entry, Side
from nfqfw.conntrack.expectation import Expectation
from nfqfw.conntrack.help import HELP
from nfqfw.conntrack.match import mark_and_mask, matches
from nfqfw.conntrack.options import COMMANDS as COMMAND_LETTERS, PROGRAM, Request, Usage, parse
from nfqfw.conntrack.stats import STATS

CPU_STATS = STATS[:10]          # what -S shows, in its order
EXPECT_STATS = ("expect_new", "expect_create", "expect_delete")
EXISTS = "Operation failed: Such conntrack exists, try -U to update"
LOADABLE = {"create", "add", "update", "delete", "flush", "event"}      # what a file of -R may hold
MISSING = "Operation failed: such conntrack doesn't exist"
XML_AROUND = {"list": (True, True), "get": (True, False)}      # what the tool puts around flows: head, tail; -D and -U print them bare
UNSUPPORTED = "Operation failed: Operation not supported"


@dataclass
class Result:
    """What the tool would print and return.  `follow`: -E was asked, the caller feeds events to follow(request, entry)."""

    stdout: str = ""
    stderr: str = ""
    code: int = 0
    follow: Request | None = None


@dataclass
class Job:
    """One run: where things are and what was said so far."""

    request: Request
    table: object
    now_ns: int
    wall_ns: int
    read: Callable[[str], str]
    out: list = field(default_factory=list)
    err: list = field(default_factory=list)
    quiet: bool = False         # inside -R: no counts
    portid: int = field(default_factory=os.getpid)      # what -E says who did it


def run(argv: list[str], table, *, now_ns: int | None = None, wall_ns: int | None = None, read: Callable[[str], str] | None = None) -> Result:
    """Run one command line (without the program's name)."""
    now_ns = time.monotonic_ns() if now_ns is None else now_ns
    wall_ns = time.time_ns() if wall_ns is None else wall_ns
    if argv[:1] in (["--explain"], ["--proc"]):
        return ours(argv, table, now_ns, wall_ns)
    try:
        request = parse(argv)
        job = Job(request, table, now_ns, wall_ns, read or _read)
        code = COMMANDS[request.command](job)
    except Usage as error:
        hint = "Try `conntrack -h' or 'conntrack --help' for more information.\n" if error.hint else ""
        return Result("", f"{PROGRAM}: {error}\n{hint}", 2 if error.hint else 1)
    follow = request if request.command == "event" else None
    return Result("".join(job.out), "".join(job.err), code, follow)


def ours(argv: list[str], table, now_ns: int, wall_ns: int) -> Result:
    """What the real tool does not have: --proc [expect] (the text of /proc/net/nf_conntrack or nf_conntrack_expect) and --explain tcp|sctp (the tracker's table)."""
    if argv[0] == "--proc" and len(argv) == 1:
        return Result("".join(listing.proc_line(entry, wall_ns) + "\n" for entry in table.list(now_ns=now_ns)))
    if argv == ["--proc", "expect"]:
        return Result("".join(expectation.proc_line(found) + "\n" for found in table.expectations(now_ns=now_ns)))
    tables = {"tcp": tcp.explain, "sctp": sctp.explain}
    if argv[0] == "--explain" and argv[1:] and argv[1] in tables:
        return Result(tables[argv[1]]())
    return Result("", "conntrack: --explain needs tcp or sctp, --proc nothing or expect\n", 2)


def follow(request: Request, entry: Entry | Expectation, now_ns: int) -> str:
    """Text of one event for -E, empty if the filters leave it out."""
    if isinstance(entry, Expectation) != (request.table == "expect"):
        return ""
    if isinstance(entry, Expectation):
        return EXPECT_TEXT.get(one_of(request.output), lambda e: expectation.event_line(e, request.output))(entry) + "\n"
    wanted = request.given.get("event-mask")
    if wanted and not any(entry.kind in kinds for kinds in wanted) or not matches(request, entry):
        return ""
    if "xml" in request.output:
        return listing.xml_line(entry, now_ns, request.output) + "\n"
    if "save" in request.output:
        return listing.save_line(entry) + "\n"
    if "json" in request.output:
        return json.dumps(listing.as_dict(entry)) + "\n"
    return listing.event_line(entry, now_ns, request.output) + "\n"


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as f:
        return f.read()


def say(job: Job, count: int, what: str) -> None:
    if not job.quiet:
        job.err.append(f"{PROGRAM}: {count} flow entries have been {what}.\n")


def fail(job: Job, text: str) -> int:
    job.err.append(f"{PROGRAM}: {text}\n")
    return 1


def show(job: Job, entries: list[Entry]) -> None:
    output, out = job.request.output, job.out
    if "json" in output:
        out.append(json.dumps([listing.as_dict(entry) for entry in entries], indent=1) + "\n")
    elif "save" in output:
        out += [listing.save_line(entry) + "\n" for entry in entries]
    elif "xml" in output:
        head, tail = XML_AROUND.get(job.request.command, (False, False))
        out += [listing.XML_HEAD + "\n"] if entries and head else []
        out += [listing.xml_line(entry, job.wall_ns, output) + "\n" for entry in entries]
        out += [listing.XML_TAIL + "\n"] if entries and tail else []
    else:
        out += [listing.line(entry, job.wall_ns, output) + "\n" for entry in entries]


def chosen(job: Job) -> list[Entry]:
    unconfirmed = job.request.table == "unconfirmed"
    entries = job.table.list(unconfirmed=unconfirmed, now_ns=job.now_ns)
    if unconfirmed:
        entries = [entry for entry in entries if not entry.status & 8]
    return [entry for entry in entries if matches(job.request, entry)]


def do_list(job: Job) -> int:
    if job.request.table == "expect":
        return list_expectations(job)
    entries = [] if job.request.table == "dying" else chosen(job)
    show(job, entries)
    if "zero" in job.request.given:
        for entry in entries:
            job.table.change(entry.number, entry.id, zero=True)
    say(job, len(entries), "shown")
    return 0


def do_delete(job: Job) -> int:
    if job.request.table == "expect":
        return delete_expectation(job)
    gone = [entry for entry in chosen(job) if job.table.delete(entry.number, entry.id, job.portid)]
    job.request.output -= {"labels"}            # the tool shows none of what it has deleted
    show(job, gone)
    say(job, len(gone), "deleted")
    return 0 if gone or job.quiet else 1


def do_get(job: Job) -> int:
    if job.request.table == "expect":
        return get_expectation(job)
    entries = chosen(job)[:1]
    if not entries:
        return fail(job, MISSING)
    entries[0].use += 1                 # the kernel holds it while it is shown
    show(job, entries)
    say(job, 1, "shown")
    return 0


def do_flush(job: Job) -> int:
    if job.request.table == "expect":
        for found in job.table.expectations(now_ns=job.now_ns):
            job.table.expect_delete(found.number, found.id)
        job.err.append(f"{PROGRAM}: expectation table has been emptied.\n")
        return 0
    family = job.request.family
    if family is None:
        job.table.flush(job.portid)
    else:
        for entry in job.table.list(now_ns=job.now_ns):
            if entry.family == family:
                job.table.delete(entry.number, entry.id, job.portid)
    job.err.append(f"{PROGRAM}: connection tracking table has been emptied.\n")
    return 0


def do_count(job: Job) -> int:
    if job.request.table == "expect":
        job.out.append(f"{sum(e.family == 2 for e in job.table.expectations(now_ns=job.now_ns))}\n")
    else:
        job.out.append(f"{job.table.count}\n")
    return 0


def do_stats(job: Job) -> int:
    stats = job.table.stats()
    names = EXPECT_STATS if job.request.table == "expect" else CPU_STATS
    job.out.append("cpu=0   \t" + "".join(f"{name}={stats[name]} " for name in names) + "\n")
    return 0


def do_create(job: Job) -> int:
    if job.request.table == "expect":
        return create_expectation(job)
    adding = job.request.command == "add"
    try:
        job.table.insert(wanted_entry(job.request), now_ns=job.now_ns, portid=job.portid)
    except FileExistsError:
        if not adding:
            return fail(job, EXISTS)
        say(job, 0, "added")
        return 0
    except PermissionError:
        return fail(job, "Operation failed: Device or resource busy")
    except OSError as error:
        return fail(job, f"Operation failed: {error.strerror or error}")
    say(job, 1, "added" if adding else "created")
    return 0


# ---- the table of expectations -----------------------------------------------------------------------------------------

EXPECT_TEXT = {"xml": expectation.xml_line, "json": lambda found: json.dumps(expectation.as_dict(found))}


def one_of(output: frozenset) -> str:
    """xml or json, if asked for: the other words change nothing about an expectation."""
    return next((word for word in ("json", "xml") if word in output), "")


def list_expectations(job: Job) -> int:
    """Lines; with -o timestamp the tool puts the time of day in front.  Without -f it lists those of IPv4, and -C counts those."""
    request, out = job.request, job.out
    found = [e for e in job.table.expectations(now_ns=job.now_ns) if e.family == (request.family or 2)]
    kind = one_of(request.output)
    stamp = f"[{job.wall_ns // 10**9}.{job.wall_ns // 1000 % 10**6}]\t" if "timestamp" in request.output and not kind else ""
    if kind == "json":
        out.append(json.dumps([expectation.as_dict(e) for e in found], indent=1) + "\n")
    else:
        lines = [stamp + EXPECT_TEXT.get(kind, expectation.line)(e) + "\n" for e in found]
        out += [expectation.XML_HEAD + "\n", *lines, expectation.XML_TAIL + "\n"] if kind == "xml" and found else lines
    job.err.append(f"{PROGRAM}: {len(found)} expectations have been shown.\n")
    return 0


def named_expectation(job: Job) -> Expectation | None:
    """What -G and -D mean: the expectation that a packet from --src to --dst would fulfil."""
    request = job.request
    side = Side(str(request.given["src"][0]), str(request.given["dst"][0]), request.keys.get("sport", 0), request.keys.get("dport", 0))
    return job.table.expect_find(Expectation(request.family, request.proto, side, side, side), job.now_ns)


def get_expectation(job: Job) -> int:
    found = named_expectation(job)
    if found is None:
        return fail(job, "Operation failed: No such file or directory")
    job.out.append(expectation.line(found) + "\n")
    return 0


def delete_expectation(job: Job) -> int:
    """The tool's last words, and its code 1, are those of the real one when it has deleted."""
    found = named_expectation(job)
    if found is None or not job.table.expect_delete(found.number, found.id):
        return fail(job, "Operation failed: No such file or directory")
    job.err.append(f"{PROGRAM}: 0 expectations have been shown.\n")
    return 1


def create_expectation(job: Job) -> int:
    """-t is read and not used: the time is the policy's of the master's helper, as in the kernel."""
    try:
        job.table.expect(wanted_expectation(job.request), now_ns=job.now_ns)
    except (LookupError, NotImplementedError) as error:
        return fail(job, f"Operation failed: {error.args[0]}")
    except OSError as error:
        return fail(job, f"Operation failed: {error.strerror}")
    return 0


def wanted_expectation(request: Request) -> Expectation:
    def side(ends: str, ports: str) -> Side:
        return Side(str(request.given[ends + "src"][0]), str(request.given[ends + "dst"][0]), request.keys.get(ports + "src", 0),
                    request.keys.get(ports + "dst", 0))

    master = side("", "")
    master.sport, master.dport = request.keys.get("sport", 0), request.keys.get("dport", 0)
    return Expectation(request.family, request.proto, side("tuple-", "tuple-port-"), side("mask-", "mask-port-"), master)


def wanted_entry(request: Request) -> Entry:
    """The entry that -I describes; what is said of one direction only is mirrored into the other."""
    given, keys = request.given, request.keys
    src, dst = (str((given.get(a) or given[b])[0]) for a, b in (("src", "reply-dst"), ("dst", "reply-src")))
    reply_src, reply_dst = (str((given.get(a) or given[b])[0]) for a, b in (("reply-src", "dst"), ("reply-dst", "src")))
    original, reply = Side(src, dst), Side(reply_src, reply_dst)
    if request.proto in (1, 58):
        original.sport = reply.sport = keys.get("id", 0)
        original.dport = keys.get("type", 0) << 8 | keys.get("code", 0)
    else:
        original.sport = keys.get("sport", keys.get("reply-port-dst", 0))
        original.dport = keys.get("dport", keys.get("reply-port-src", 0))
        reply.sport = keys.get("reply-port-src", original.dport)
        reply.dport = keys.get("reply-port-dst", original.sport)
    status = sum({bit for bit in given.get("status", ()) if isinstance(bit, int)})
    for name, bit, attribute, key in (("src-nat", SRC_NAT, "dst", "dport"), ("dst-nat", DST_NAT, "src", "sport")):
        if given.get(name):
            address, port = given[name]
            status |= bit
            setattr(reply, attribute, str(address))
            if port is not None:
                setattr(reply, key, port)
    both = request.number("zone") if "zone" in given else 0
    original.zone = request.number("orig-zone") if "orig-zone" in given else both
    reply.zone = request.number("reply-zone") if "reply-zone" in given else both
    entry = Entry(number=0, id=0, family=request.family, proto=request.proto, status=status, timeout=request.number("timeout"),
                  state=keys.get("state", 0), mark=mark_and_mask(given["mark"])[0] if "mark" in given else 0, original=original, reply=reply,
                  labels=given.get("label-add") or 0)
    if "orig-vtag" in keys or "reply-vtag" in keys:
        entry.extra["vtag"] = tuple(listing.swapped(keys.get(key, 0)) for key in ("orig-vtag", "reply-vtag"))
    return entry


def do_update(job: Job) -> int:
    """Change what the filters choose: -m, -t, -u and labels say what to, the rest says which."""
    request = job.request
    given = request.given
    changes = {}
    if "mark" in given:
        changes["mark"], changes["mask"] = mark_and_mask(given["mark"])
    if "timeout" in given:
        changes["timeout"] = request.number("timeout")
    if "status" in given:
        changes["status"] = sum({bit for bit in given["status"] if isinstance(bit, int)})
    if "label-add" in given or "label-del" in given:
        changes["labels_add"] = given.get("label-add") or 0
        changes["labels_del"] = given.get("label-del") or (2**128 - 1 if "label-del" in given else 0)
    which = Request(request.command, given={k: v for k, v in given.items() if k not in ("mark", "timeout", "status")},
                    keys={k: v for k, v in request.keys.items() if k != "state"}, proto=request.proto, family=request.family)
    if "state" in request.keys:
        changes["state"] = request.keys["state"]
    updated = []
    for entry in job.table.list(now_ns=job.now_ns):
        if not matches(which, entry) or ("label-del" in given and not entry.labels):
            continue
        if request.family is None:          # the tool cannot say which family it means, and the kernel refuses
            job.err.append(UNSUPPORTED + "\n")
            return fail(job, UNSUPPORTED)
        changed = job.table.change(entry.number, entry.id, **changes, portid=job.portid)
        if changed is not None:
            changed.use += 1
            updated.append(changed)
    show(job, updated)
    say(job, len(updated), "updated")
    return 0 if updated or job.quiet else 1


def do_load(job: Job) -> int:
    """-R: a file of command lines, as -o save writes them; # starts a comment."""
    try:
        text = job.read(job.request.path)
    except OSError:
        raise Usage(f"Failed to open file {job.request.path} for reading") from None
    code = 0
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        request = loadable(parse(words))
        inner = Job(request, job.table, job.now_ns, job.wall_ns, job.read, job.out, job.err, quiet=True)
        code = COMMANDS[request.command](inner) or code
    return code


def loadable(request: Request) -> Request:
    """A line of a file may change the table; it may not ask, nor name another file (which may be the same).  Raises Usage."""
    letter = next(letter for letter, name in COMMAND_LETTERS.items() if name == request.command)
    if request.command == "load":
        raise Usage(f"unknown option `-{letter}'")
    if request.command not in LOADABLE:
        raise Usage(f"Cannot use command `-{letter}{' expect' if request.table == 'expect' else ''}' with --load-file")
    return request


def do_event(job: Job) -> int:
    return 0


def do_version(job: Job) -> int:
    job.out.append(PROGRAM + "\n")
    return 0


def do_help(job: Job) -> int:
    job.out.append(HELP)
    return 0


COMMANDS = {"list": do_list, "create": do_create, "add": do_create, "update": do_update, "delete": do_delete, "get": do_get,
            "flush": do_flush, "event": do_event, "count": do_count, "stats": do_stats, "load": do_load, "version": do_version,
            "help": do_help}
