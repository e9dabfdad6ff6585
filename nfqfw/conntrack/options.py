"""The command line of conntrack 1.4.7 as data: options, which command takes which, and its error texts.

`parse` gives a Request or raises Usage with the tool's words.  No table is touched here.
"""

import ipaddress
import re
from dataclasses import dataclass, field

from nfqfw.conntrack import sctp, tcp
from nfqfw.ext import connlabels

PROGRAM = "conntrack v1.4.7 (conntrack-tools)"
TABLES = ("conntrack", "expect", "dying", "unconfirmed")
COMMANDS = {"L": "list", "I": "create", "U": "update", "D": "delete", "G": "get", "F": "flush", "E": "event", "C": "count",
            "S": "stats", "A": "add", "R": "load", "V": "version", "h": "help"}
COMMAND_WORDS = {"dump": "L", "create": "I", "delete": "D", "update": "U", "get": "G", "flush": "F", "event": "E", "count": "C",
                 "stats": "S", "add": "A", "load-file": "R", "version": "V", "help": "h"}

# (name in errors, letter, long words, takes an argument: "must", "may" or "")
OPTIONS = (
    ("src", "s", ("src", "orig-src"), "must"), ("dst", "d", ("dst", "orig-dst"), "must"),
    ("reply-src", "r", ("reply-src",), "must"), ("reply-dst", "q", ("reply-dst",), "must"),
    ("protonum", "p", ("protonum",), "must"), ("timeout", "t", ("timeout",), "must"), ("status", "u", ("status",), "must"),
    ("zero", "z", ("zero",), ""), ("event-mask", "e", ("event-mask",), "must"), ("tuple-src", "", ("tuple-src",), "must"),
    ("tuple-dst", "", ("tuple-dst",), "must"), ("mask-src", "", ("mask-src",), "must"), ("mask-dst", "", ("mask-dst",), "must"),
    ("mark", "m", ("mark",), "must"), ("family", "f", ("family",), "must"), ("src-nat", "n", ("src-nat",), "may"),
    ("dst-nat", "g", ("dst-nat",), "may"), ("output", "o", ("output",), "must"), ("secmark", "c", ("secmark",), "must"),
    ("buffer-size", "b", ("buffer-size",), "must"), ("any-nat", "j", ("any-nat",), "may"), ("zone", "w", ("zone",), "must"),
    ("label", "l", ("label",), "must"), ("label-add", "", ("label-add",), "must"), ("label-del", "", ("label-del",), "may"),
    ("orig-zone", "", ("orig-zone",), "must"), ("reply-zone", "", ("reply-zone",), "must"),
)
FILTER = {"src", "dst", "reply-src", "reply-dst", "protonum", "family", "output", "mask-src", "mask-dst"}
NATS = {"src-nat", "dst-nat", "any-nat"}
ZONES = {"zone", "orig-zone", "reply-zone"}
LABELS = {"label", "label-add", "label-del"}
ALLOWED = {
    "list": FILTER | NATS | ZONES | LABELS | {"status", "zero", "mark", "secmark"},
    "create": FILTER | NATS | ZONES | {"timeout", "status", "mark", "secmark", "label-add"},
    "update": FILTER | NATS | LABELS | {"timeout", "status", "mark", "secmark"},
    "delete": FILTER | NATS | ZONES | {"timeout", "status", "mark", "secmark", "label"},
    "get": FILTER | {"status", "zone", "orig-zone", "reply-zone"},
    "flush": {"family"}, "count": set(), "stats": set(), "version": set(), "help": set(), "load": set(),
    "event": FILTER | NATS | ZONES | {"event-mask", "mark", "secmark", "buffer-size", "label"},
}
ALLOWED["add"] = ALLOWED["create"]
REQUIRED = {"create": ("protonum", "timeout"), "add": ("protonum", "timeout"), "get": ("protonum",)}
EXPECT_ENDS = {"src", "dst", "reply-src", "reply-dst", "protonum"}
EXPECT_ALLOWED = {"list": {"family", "output"}, "event": {"output", "buffer-size"}, "get": EXPECT_ENDS, "delete": EXPECT_ENDS,
                  "create": EXPECT_ENDS | {"timeout", "status", "tuple-src", "tuple-dst", "mask-src", "mask-dst"}}
EXPECT_REQUIRED = {"create": ("src", "dst", "protonum", "timeout", "tuple-src", "tuple-dst", "mask-src", "mask-dst"),
                   "get": ("src", "dst", "protonum"), "delete": ("src", "dst", "protonum")}

PORT_WORDS = {"sport": "sport", "orig-port-src": "sport", "dport": "dport", "orig-port-dst": "dport",
              "reply-port-src": "reply-port-src", "reply-port-dst": "reply-port-dst", "tuple-port-src": "tuple-port-src",
              "tuple-port-dst": "tuple-port-dst", "mask-port-src": "mask-port-src", "mask-port-dst": "mask-port-dst"}
PROTOCOL_OPTIONS = {        # protocol -> option word -> its one name
    6: PORT_WORDS | {"state": "state"}, 17: PORT_WORDS, 136: PORT_WORDS,
    132: PORT_WORDS | {"state": "state", "orig-vtag": "orig-vtag", "reply-vtag": "reply-vtag"},
    1: {"icmp-type": "type", "icmp-code": "code", "icmp-id": "id"},
    58: {"icmpv6-type": "type", "icmpv6-code": "code", "icmpv6-id": "id"},
    47: {"srckey": "sport", "orig-key-src": "sport", "dstkey": "dport", "orig-key-dst": "dport", "reply-key-src": "reply-port-src",
         "reply-key-dst": "reply-port-dst", "tuple-key-src": "tuple-port-src", "tuple-key-dst": "tuple-port-dst",
         "mask-key-src": "mask-port-src", "mask-key-dst": "mask-port-dst"},
}
EXPECT_KEYS = ("tuple-port-src", "tuple-port-dst", "mask-port-src", "mask-port-dst")        # of `expect` commands alone
EXPECT_PORTS = {"create": ("sport", "dport", "mask-port-src", "mask-port-dst", "tuple-port-src", "tuple-port-dst"),
                "get": ("sport", "dport", "reply-port-src", "reply-port-dst"), "delete": ("sport", "dport", "reply-port-src", "reply-port-dst")}
GRE_CREATE = ("sport", "dport", "reply-port-src", "reply-port-dst", "mask-port-src", "mask-port-dst", "tuple-port-src", "tuple-port-dst")
GRE_SHOWN = {"sport": "srckey", "dport": "dstkey"}      # what errors call them; else "port" becomes "key"
PROTOCOL_REQUIRED = {       # (key, option that the error names), in the tool's order
    6: (("state", "state"),), 132: (("state", "state"), ("orig-vtag", "orig-vtag"), ("reply-vtag", "reply-vtag")),
    1: (("type", "icmp-type"), ("code", "icmp-code")), 58: (("type", "icmpv6-type"), ("code", "icmpv6-code")),
}
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "gre": 47, "sctp": 132, "udplite": 136, "dccp": 33, "esp": 50, "ah": 51}
FAMILIES = {"ipv4": 2, "ipv6": 10}
STATUS = {"ASSURED": 4, "SEEN_REPLY": 2, "UNSET": 0, "FIXED_TIMEOUT": 1024, "EXPECTED": 1, "UNREPLIED": 0, "OFFLOAD": 16384}
EVENT_WORDS = {"ALL": frozenset({"NEW", "UPDATE", "DESTROY"}), "NEW": frozenset({"NEW"}), "UPDATES": frozenset({"UPDATE"}),
               "DESTROY": frozenset({"DESTROY"})}
OUTPUTS = ("xml", "extended", "timestamp", "id", "ktimestamp", "labels", "userspace", "save", "json")


class Usage(Exception):
    """The tool's message.  `hint`: it tells where help is, and ends with code 2; else 1."""

    def __init__(self, text: str, hint: bool = True):
        super().__init__(text)
        self.hint = hint


@dataclass
class Request:
    """One command line, understood.  Values are as typed except where a type says else."""

    command: str
    table: str = "conntrack"
    given: dict = field(default_factory=dict)       # option name -> argument
    keys: dict = field(default_factory=dict)        # protocol options: sport, dport, type, state ...
    proto: int | None = None
    family: int | None = None
    output: frozenset = frozenset()
    path: str | None = None                         # -R

    def number(self, name: str) -> int:
        return leading_number(self.given[name])


def leading_number(text: str) -> int:
    """strtoul(text, NULL, 0): what cannot be read counts as nothing."""
    found = re.match(r"\s*(0[xX][0-9a-fA-F]+|\d+)", text)
    if not found:
        return 0
    word = found[1]
    if word[:2] in ("0x", "0X"):
        return int(word, 16)
    return int(word, 8) if len(word) > 1 and word[0] == "0" and set(word) <= set("01234567") else int(word)


def words_of(argv: list[str]) -> list[tuple[str, str | None]]:
    """Options in getopt_long's manner: (word as typed, argument).  Commands' optional table words are left as ('', word)."""
    letters = {letter: need for _, letter, _, need in OPTIONS if letter} | dict.fromkeys("LIUDGFECSAVh", "") | {"R": "must"}
    longs = {word: need for _, _, words, need in OPTIONS for word in words} | dict.fromkeys(COMMAND_WORDS, "") | {"load-file": "must"}
    for words in PROTOCOL_OPTIONS.values():
        longs |= dict.fromkeys(words, "must")
    out, rest = [], list(argv)
    while rest:
        word = rest.pop(0)
        if word.startswith("--") and len(word) > 2:
            typed, equals, value = word[2:].partition("=")
            found = [typed] if typed in longs else [long for long in longs if long.startswith(typed)]
            if len(found) != 1:
                raise Usage(f"unknown option `{word.partition('=')[0]}'")
            out.append(("--" + found[0], argument(longs[found[0]], value if equals else None, rest, "--" + typed)))
        elif word.startswith("-") and len(word) > 1:
            cluster = word[1:]
            while cluster:
                letter, cluster = cluster[0], cluster[1:]
                if letter not in letters:
                    raise Usage(f"unknown option `-{letter}'")
                value = None
                if letters[letter]:
                    value = argument(letters[letter], cluster or None, rest, "-" + letter)
                    cluster = ""
                out.append(("-" + letter, value))
        else:
            out.append(("", word))
    return out


def argument(need: str, attached: str | None, rest: list[str], shown: str) -> str | None:
    if not need or attached is not None:
        return attached
    if need == "must":
        if not rest:
            raise Usage(f"option `{shown}' requires an argument" if shown != "-R" else "unknown option `-R'")
        return rest.pop(0)
    return rest.pop(0) if rest and not rest[0].startswith("-") else None


def parse(argv: list[str]) -> Request:
    """A whole command line after the program's name; Usage with the tool's words."""
    request = Request("help" if not argv else "")
    typed = words_of(argv)
    names = {"-" + letter: name for name, letter, _, _ in OPTIONS if letter}
    names |= {"--" + word: name for name, _, words, _ in OPTIONS for word in words}
    commands = {"-" + letter: name for letter, name in COMMANDS.items()} | {
        "--" + word: COMMANDS[letter] for word, letter in COMMAND_WORDS.items()}
    for at, (word, value) in enumerate(typed):
        if word in commands:
            if request.command:
                raise Usage("Invalid commands combination")
            request.command = commands[word]
            request.path = value
        elif word == "":
            if at == 0 or typed[at - 1][0] not in commands or value not in TABLES:
                raise Usage(f"unknown type `{value}'")
            request.table = value
        elif word in names:
            read_option(request, names[word], value)
        else:
            read_protocol_option(request, word, value)      # known from -p on, not before
    if not request.command:
        raise Usage("You need to specify a command")
    check(request)
    return request


def read_option(request: Request, name: str, value: str | None) -> None:
    if name == "protonum":
        request.proto = protocol(value)
    elif name == "family":
        if value not in FAMILIES:
            raise Usage(f"`{value}' unsupported protocol")
        set_family(request, FAMILIES[value])
    elif name in ("src", "dst", "reply-src", "reply-dst", "mask-src", "mask-dst", "tuple-src", "tuple-dst"):
        value = network(request, value)
    elif name in NATS and value is not None:
        value = nat_address(request, value)
    elif name == "status":
        value = flags(value, STATUS)
    elif name == "event-mask":
        value = flags(value, EVENT_WORDS)
    elif name == "output":
        request.output |= frozenset(flags(value, {word: word for word in OUTPUTS}))
    elif name in LABELS:
        value = label_bits(value)
        request.output |= {"labels"}                      # who asks by label is shown them
    request.given[name] = value


def protocol(text: str) -> int:
    if text in PROTOCOLS:
        return PROTOCOLS[text]
    if text.isdigit() and int(text) < 256:
        return int(text)
    raise Usage(f"`{text}' unsupported protocol")


def set_family(request: Request, family: int) -> None:
    if request.family not in (None, family):
        raise Usage("mismatched address family")
    request.family = family


def flags(text: str, words: dict) -> list:
    out = []
    for word in text.split(","):
        found = next((words[known] for known in words if known.lower() == word.lower()), None)
        if found is None:
            raise Usage(f"Bad parameter `{word}'")
        out.append(found if found not in (0,) else ("UNREPLIED" if word.upper() == "UNREPLIED" else 0))
    return out


def one_address(text: str):
    """inet_aton accepts fewer than four numbers; else an address of either family, or None."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        parts = text.split(".")
        if 0 < len(parts) < 4 and all(part.isdigit() for part in parts):
            value = int(parts[-1])
            for at, part in enumerate(parts[:-1]):
                value |= int(part) << (24 - 8 * at)
            return ipaddress.IPv4Address(value & 0xFFFFFFFF)
    return None


def network(request: Request, text: str):
    """(address, prefix length or None)."""
    base, slash, bits = text.partition("/")
    found = one_address(base)
    if found is None:
        raise Usage(f"Invalid IP address `{text}'")
    set_family(request, 10 if found.version == 6 else 2)
    if slash and (not bits.isdigit() or int(bits) > found.max_prefixlen):
        raise Usage("Invalid netmask")
    return found, int(bits) if slash else None


def nat_address(request: Request, text: str):
    """(address, port or None)."""
    base, _, port = text.rpartition(":") if text.count(":") == 1 else (text, "", "")
    if port and not (port.isdigit() and int(port) < 65536):
        raise Usage(f"Invalid port `{port}'")
    found = one_address(base)
    if found is None:
        raise Usage(f"Invalid IP address `{text}'")
    set_family(request, 10 if found.version == 6 else 2)
    return found, int(port) if port else None


def label_bits(text: str | None) -> int:
    """Labels by the names of this host; where it names none, by number (the tool then knows none at all)."""
    names = connlabels.named() or {str(number): number for number in range(connlabels.LABELS)}
    bits = 0
    for word in (text or "").split(","):
        if word and word not in names:
            raise Usage(f"unknown label '{word}'")
        bits |= 1 << names[word] if word else 0
    return bits


def read_protocol_option(request: Request, word: str, value: str) -> None:
    key = PROTOCOL_OPTIONS.get(request.proto, {}).get(word[2:])
    if key is None:
        raise Usage(f"unknown option `{word}'")
    if key == "state":
        request.keys["state"] = state_number(request.proto, value)
    else:
        request.keys[key] = leading_number(value) & (0xFFFFFFFF if "vtag" in key else 0xFFFF)


def state_number(proto: int, text: str) -> int:
    states = (*tcp.STATES,) if proto == 6 else sctp.STATES
    if proto == 6 and text == "LISTEN":
        return 9                # the tool's old word for SYN_SENT2
    if text not in states:
        raise Usage(f"unknown {'TCP' if proto == 6 else 'SCTP'} state `{text}'")
    return states.index(text)


def check(request: Request) -> None:
    """Which options go with the command, and which it must have; in the tool's order."""
    if "label-add" in request.given and "label-del" in request.given:
        raise Usage("cannot use --label-add and --label-del at the same time", hint=False)
    if "save" in request.output and len(request.output) > 1:
        raise Usage("cannot combine save output with any other output type, use -o save only", hint=False)
    command, given = request.command, request.given
    if request.table == "expect":
        check_expect(request)
        return
    for need in REQUIRED.get(command, ()):
        if need not in given:
            raise Usage(f"You need to supply the `--{need}' option for this command")
    for name, _, _, _ in OPTIONS:
        if name in given and name not in ALLOWED[command]:
            raise Usage(f"Illegal option `--{name}' with this command")
    for key in EXPECT_KEYS:
        if key in request.keys:
            raise Usage(f"Illegal option `--{shown_key(request.proto, key)}' with this command")
    for end in ("src", "dst"):
        if "mask-" + end in given and end not in given:
            raise Usage(f"Can't use --mask-{end} without --{end}")
    if command == "list" and "zero" in given and set(given) - {"zero", "output", "family"}:
        raise Usage("Can't use -z with filtering parameters")
    if command in ("create", "add", "get"):
        check_tuple(request)


def check_tuple(request: Request) -> None:
    given, keys = request.given, request.keys
    if not ({"src", "dst"} <= set(given) or {"reply-src", "reply-dst"} <= set(given)):
        raise Usage("you have to specify `--src' and `--dst'")
    for key, option in PROTOCOL_REQUIRED.get(request.proto, ()):
        if key not in keys and (request.command != "get" or request.proto in (1, 58)):
            raise Usage(f"You need to supply the `--{option}' option for this command")
    pair = ("srckey", "dstkey") if request.proto == 47 else ("sport", "dport")
    if request.proto in (6, 17, 47, 132, 136) and not (
            {"sport", "dport"} <= set(keys) or {"reply-port-src", "reply-port-dst"} <= set(keys)):
        raise Usage(f"you have to specify `--{pair[0]}' and `--{pair[1]}'")


def shown_key(proto: int | None, key: str) -> str:
    return GRE_SHOWN.get(key, key.replace("port", "key")) if proto == 47 else key


def check_expect(request: Request) -> None:
    command, given = request.command, request.given
    if command in ("update", "add"):
        raise Usage(f"Can't do --{command} on expectations")
    for need in EXPECT_REQUIRED.get(command, ()):
        if need not in given:
            raise Usage(f"You need to supply the `--{need}' option for this command")
    allowed = EXPECT_ALLOWED.get(command, set())
    for name, _, _, _ in OPTIONS:
        if name in given and name not in allowed:
            raise Usage(f"Illegal option `--{name}' with this command")
    check_expect_keys(request)


def check_expect_keys(request: Request) -> None:
    """Ports of master, tuple and mask: which the command must have and which it may not."""
    keys = set(request.keys)
    needed: tuple[str, ...] = ()
    if request.proto in (6, 17, 132, 136):
        needed = EXPECT_PORTS.get(request.command, ())
    elif request.proto == 47:
        needed = GRE_CREATE if request.command == "create" else EXPECT_PORTS.get(request.command, ())
    for key in needed:
        if key not in keys:
            raise Usage(f"You need to supply the `--{shown_key(request.proto, key)}' option for this command")
    for key in ("sport", "dport", "reply-port-src", "reply-port-dst", *EXPECT_KEYS, "state", "type", "code", "id", "orig-vtag", "reply-vtag"):
        if key in keys and key not in needed:
            word = f"icmp{'v6' if request.proto == 58 else ''}-{key}" if key in ("type", "code", "id") else shown_key(request.proto, key)
            raise Usage(f"Illegal option `--{word}' with this command")
