"""A command line of iptables -> Command: what is to be done, and to a rule of which shape.

Overview.  `Parser` walks the words as getopt_long does: options of iptables itself, then those of the matches and the
target that the line has loaded so far (the latest first), abbreviations where they are unique, and last the match of the
protocol, which `-p tcp --dport 22` loads by itself.  Mistakes raise RuleError with `index`, the word they concern.

The texts of mistakes are those of iptables-legacy 1.8.13 (spec/iptables.md, appendix A).
"""

from __future__ import annotations

import re

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import Draft, Env, Extension
from nfqfw.ext.names import Resolver
from nfqfw.ext.registry import STANDARD_TARGETS, find_match, find_target
from nfqfw.limits import CHAIN_NAME_BYTES, IFACE_NAME_BYTES
from nfqfw.protocols import EXTENSION_HEADERS_WARNED, NAME_OF
from nfqfw.rules.model import INV_DST, INV_FRAG, INV_IN, INV_OUT, INV_PROTO, INV_SRC, VERDICTS, Jump, Rule
from nfqfw.rules.options import COMMANDS, INVERTIBLE, LIMITED, LONG, LONG_NAME, MAYBE, NO, RULE_COMMANDS, SHORT, YES

INV_BIT = {"s": INV_SRC, "d": INV_DST, "p": INV_PROTO, "i": INV_IN, "o": INV_OUT, "f": INV_FRAG}
NO_INPUT, NO_OUTPUT = ("POSTROUTING", "OUTPUT"), ("PREROUTING", "INPUT")
NAT_DROP = '\nThe "nat" table is not intended for filtering, the use of DROP is therefore inhibited.\n\n'
DEFAULT_RESOLVER = Resolver()


class Command:
    """What one command line asks for."""

    __slots__ = ("command", "chain", "number", "argument", "table", "given", "at", "inverted", "sources", "destinations",
                 "in_interface", "out_interface", "protocol", "protocol_text", "matches", "target", "jump", "goto",
                 "packets", "bytes", "verbose", "zero", "zero_number", "help", "version", "skip", "warnings")

    def __init__(self, table: str):
        self.command = ""                   # letter, "" = none
        self.zero = False                   # -Z beside -L or -S
        self.zero_number = False            # -Z CHAIN NUMBER
        self.chain: str | None = None
        self.number = 0                     # 0 = none
        self.argument = ""                  # -P: policy, -E: new name
        self.table = table
        self.given: set[str] = set()        # letters of options given
        self.at: dict[str, int] = {}        # letter -> index of the word that gave it
        self.inverted = 0                   # INV_* bits
        self.sources = ""
        self.destinations = ""
        self.in_interface = ""
        self.out_interface = ""
        self.protocol = 0
        self.protocol_text = ""
        self.matches: list[Draft] = []
        self.target: Draft | None = None
        self.jump = ""
        self.goto = False
        self.packets = 0
        self.bytes = 0
        self.verbose = 0
        self.help: Extension | bool = False
        self.version = False
        self.skip = False                   # -4 or -6 of the other family inside restore
        self.warnings: list[str] = []       # for standard error


class Parser:
    """Reads one command line; make a new one for each."""

    def __init__(self, words: list[str], family: int, table: str = "filter", restore: str = "", resolver=DEFAULT_RESOLVER):
        self.words = words
        self.family = family
        self.restore = restore              # name of the restore program, "" = a command of its own
        self.resolver = resolver
        self.at = 0                         # next word
        self.cluster = ""                   # rest of a word with several short options
        self.opt_at = 0                     # word of the option at hand
        self.invert = False
        self.loaded: list[Draft] = []       # matches and target, latest first: where their options are looked up
        self.proto_used = False
        self.out = Command(table)
        self.env: Env | None = None

    # ---- words -----------------------------------------------------------------------------------------------------------

    def parse(self) -> Command:
        try:
            self.read_options()
            self.finish()
        except RuleError as error:
            if error.index is None:
                error.index = min(self.opt_at, len(self.words) - 1) if self.words else 0
            raise
        return self.out

    def read_options(self) -> None:
        words = self.words
        while True:
            if self.cluster:
                self.short_option(self.cluster[0], self.cluster[1:])
            elif self.at >= len(words):
                return
            else:
                word = words[self.at]
                self.opt_at = self.at
                self.at += 1
                if word == "!":
                    self.exclamation()
                    continue
                if word == "--":
                    continue
                if word.startswith("--"):
                    self.long_option(word)
                elif len(word) > 1 and word[0] == "-":
                    self.short_option(word[1], word[2:])
                else:
                    raise RuleError(f"Bad argument `{word}'", bare=True)
            self.invert = False
            if self.out.help or self.out.version or self.out.skip:
                return

    def exclamation(self) -> None:
        if self.invert:
            raise RuleError("multiple consecutive ! not allowed")
        self.invert = True

    def argument(self, attached: str | None) -> str:
        """The option's argument: attached to it, or the next word whatever it looks like."""
        if attached:
            return attached
        if self.at >= len(self.words):
            raise RuleError(f'option "{self.words[self.opt_at]}" requires an argument')
        self.at += 1
        return self.words[self.at - 1]

    def more(self) -> str | None:
        """One more word for an option that takes two; None at the end of the line."""
        if self.at >= len(self.words):
            return None
        self.at += 1
        return self.words[self.at - 1]

    def next_plain(self) -> str | None:
        """The next word if it does not look like an option, as the optional arguments of commands are read."""
        if self.at < len(self.words):
            word = self.words[self.at]
            if word[:1] not in ("-", "!") or word == "":
                self.at += 1
                return word
        return None

    def short_option(self, letter: str, rest: str) -> None:
        takes = SHORT.get(letter)
        if takes is None:
            raise RuleError(f'unknown option "-{letter}"')
        if takes == NO:
            self.cluster = rest
            self.base_option(letter, None)
            return
        self.cluster = ""
        self.base_option(letter, rest or None) if takes == MAYBE else self.base_option(letter, self.argument(rest))

    def long_option(self, word: str) -> None:
        name, equals, value = word[2:].partition("=")
        found = self.find_long(name)
        if found is None and self.load_protocol():
            found = self.find_long(name)
        if found is None:
            raise RuleError(f'unknown option "{word}"')
        draft, opt = found
        if draft is None:
            if equals and opt.takes == NO:
                raise RuleError(f'unknown option "{word}"')
            attached = value if equals else None
            if opt.takes == YES:
                attached = value if equals else self.argument(None)
            self.base_option(opt.letter, attached)
            return
        if equals and not opt.takes:
            raise RuleError(f'unknown option "{word}"')
        self.extension_option(draft, opt, value if equals else self.argument(None) if opt.takes else None)

    def find_long(self, name: str):
        """(draft, option) of an extension or (None, option) of iptables; None if unknown or not unique."""
        base = LONG.get(name)
        if base is not None:
            return None, base
        for draft in self.loaded:
            opt = draft.ext.by_name.get(name)
            if opt is not None:
                return draft, opt
        candidates: list = []
        for spelling, base in LONG.items():
            if spelling.startswith(name) and base.letter not in [c[1].letter for c in candidates]:
                candidates.append((None, base))
        for draft in self.loaded:
            for spelling, opt in draft.ext.by_name.items():
                if spelling.startswith(name) and not any(c[1] is opt and c[0] is draft for c in candidates):
                    candidates.append((draft, opt))
        return candidates[0] if len(candidates) == 1 else None

    # ---- extensions ------------------------------------------------------------------------------------------------------

    def load_protocol(self) -> bool:
        """Load the match of -p once, when an option is not known otherwise."""
        out = self.out
        if not out.protocol_text or self.proto_used:
            return False
        self.proto_used = True
        name = NAME_OF.get(out.protocol) or out.protocol_text
        extension = find_match(name, self.family)
        if extension is None:
            return False
        if any(draft.ext is extension for draft in out.matches):
            return False
        self.add_match(extension)
        return True

    def add_match(self, extension: Extension) -> None:
        draft = Draft(extension)
        self.out.matches.append(draft)
        self.loaded.insert(0, draft)

    def extension_option(self, draft: Draft, opt, value: str | None) -> None:
        draft.more = self.more
        draft.typed = self.words[self.opt_at]
        if self.env is None:
            self.env = self.make_env()
        value_at = self.at - 1
        try:
            draft.ext.read(draft, opt, value, self.invert, self.env)
        except RuleError as error:
            if error.index is None:
                error.index = value_at if error.offset or (value is not None and value_at > self.opt_at) else self.opt_at
            raise

    def make_env(self) -> Env:
        out = self.out
        return Env(self.family, out.protocol, bool(out.inverted & INV_PROTO), out.table, self.resolver)

    # ---- options of iptables itself --------------------------------------------------------------------------------------

    def base_option(self, letter: str, value: str | None) -> None:
        if letter in COMMANDS:
            self.set_command(letter, value)
        else:
            OPTION[letter](self, letter, value)

    def set_command(self, letter: str, value: str | None) -> None:
        out = self.out
        if self.invert:
            raise RuleError("unexpected '!' flag")
        listing = "LS" if letter == "Z" else "Z" if letter in "LS" else ""
        if letter == "Z" and out.zero:
            raise RuleError("Cannot use -Z with -Z")
        if out.command and out.command not in listing:
            raise RuleError(f"Cannot use -{letter} with -{out.command}")
        out.at[letter] = self.opt_at
        if letter == "Z" or out.command == "Z":
            out.zero = True
        out.command = letter if not (letter == "Z" and out.command) else out.command
        COMMAND[letter](self, letter, value)

    def command_rule(self, letter: str, value: str | None) -> None:
        """-A -C -D -I -R: a chain, and a number where one fits."""
        out = self.out
        self.take_chain(value)
        if letter in "AC":
            return
        text = self.next_plain()
        if text is not None:
            out.number = self.rule_number(text)
        elif letter == "R":
            raise RuleError("-R requires a rule number")
        elif letter == "I":
            out.number = 1

    def command_list(self, letter: str, value: str | None) -> None:
        """-L -S -F -Z -X: perhaps a chain; -L, -S, -Z perhaps a number after it."""
        chain = value if value is not None else self.next_plain()
        if chain is None:
            return
        self.take_chain(chain)
        if letter in "LSZ":
            text = self.next_plain()
            if text is not None:
                self.out.number = self.rule_number(text)
                self.out.zero_number = letter == "Z"

    def command_new(self, letter: str, value: str | None) -> None:
        check_chain_name(value, self.family)
        self.take_chain(value)

    def command_rename(self, letter: str, value: str | None) -> None:
        self.take_chain(value)
        new = self.next_plain()
        if new is None:
            raise RuleError("-E requires old-chain-name and new-chain-name")
        check_chain_name(new, self.family)
        self.out.argument = new

    def command_policy(self, letter: str, value: str | None) -> None:
        self.take_chain(value)
        policy = self.next_plain()
        if policy is None:
            raise RuleError("-P requires a chain and a policy")
        self.out.argument = policy

    def take_chain(self, name: str) -> None:
        self.out.chain = name
        self.out.at["chain"] = self.at - 1

    def rule_number(self, text: str) -> int:
        number = names.unsigned(text, 1, 0xFFFFFFFF)
        if number is None:
            raise RuleError(f"Invalid rule number `{text}'", index=self.at - 1)
        return number

    def once(self, letter: str) -> None:
        """Mark an option of the limited ones as given; it may be given and inverted only so far."""
        out = self.out
        if letter in out.given:
            raise RuleError(f"multiple --{LONG_NAME[letter]} options not allowed")
        if self.invert:
            if letter not in INVERTIBLE:
                raise RuleError(f"cannot have ! before --{LONG_NAME[letter]}")
            out.inverted |= INV_BIT[letter]
        out.given.add(letter)
        out.at[letter] = self.at - 1

    def option_address(self, letter: str, value: str) -> None:
        self.once(letter)
        if letter == "s":
            self.out.sources = value
        else:
            self.out.destinations = value

    def option_protocol(self, letter: str, value: str) -> None:
        self.once(letter)
        out = self.out
        text = value.lower()
        self.opt_at = self.at - 1
        out.protocol = names.parse_protocol(text)
        out.protocol_text = text
        self.env = None
        if out.protocol == 0 and out.inverted & INV_PROTO:
            raise RuleError("rule would never match protocol")
        if self.family == 10 and out.protocol in EXTENSION_HEADERS_WARNED and not out.inverted & INV_PROTO:
            out.warnings.append(f"Warning: never matched protocol: {text}. use extension match instead.\n")

    def option_interface(self, letter: str, value: str) -> None:
        self.once(letter)
        if len(value.encode(errors="surrogateescape")) > IFACE_NAME_BYTES:
            raise RuleError(f"interface name `{value}' must be shorter than 16 characters", index=self.at - 1)
        if UNWRITABLE.search(value):
            raise RuleError(f"interface name `{value}' cannot be written into a file", index=self.at - 1)
        if "/" in value:
            self.out.warnings.append(f"Warning: weird character in interface `{value}' ('/' and ' ' are not allowed by the kernel).\n")
        if letter == "i":
            self.out.in_interface = value
        else:
            self.out.out_interface = value

    def option_jump(self, letter: str, value: str) -> None:
        out = self.out
        self.once("j")
        check_target_name(value)
        out.jump = value
        out.goto = letter == "g"
        if letter == "j" and value not in STANDARD_TARGETS:
            extension = find_target(value, self.family)
            if extension is not None:
                out.target = Draft(extension)
                self.loaded.insert(0, out.target)

    def option_match(self, letter: str, value: str) -> None:
        if self.invert:
            raise RuleError("unexpected ! flag before --match")
        extension = find_match(value, self.family)
        if extension is None:
            raise RuleError(f"Couldn't load match `{value}':No such file or directory\n", index=self.at - 1)
        self.add_match(extension)

    def option_table(self, letter: str, value: str) -> None:
        if self.invert:
            raise RuleError("unexpected ! flag before --table")
        if self.restore:
            raise RuleError(f"The -t option cannot be used in {self.restore}.\n")
        self.out.table = value
        self.env = None

    def option_flag(self, letter: str, value: str | None) -> None:
        """-n -x --line-numbers, and -f, which IPv6 does not have."""
        if letter == "f" and self.family == 10:
            raise RuleError("`-f' is not supported in IPv6, use -m frag instead")
        self.once(letter)

    def option_verbose(self, letter: str, value: str | None) -> None:
        if not self.out.verbose:
            self.once(letter)
        self.out.verbose += 1

    def option_counters(self, letter: str, value: str) -> None:
        self.once(letter)
        packets, comma, byte_count = value.partition(",")
        if not comma:
            byte_count = self.next_plain()
            if byte_count is None:
                raise RuleError("--set-counters requires packet and byte counter")
        for text, what in ((packets, "packet"), (byte_count, "byte")):
            if not text.strip()[:1].isdigit():
                raise RuleError(f"--set-counters {what} counter not numeric", index=self.at - 1)
        self.out.packets, self.out.bytes = leading_digits(packets), leading_digits(byte_count)

    def option_wait(self, letter: str, value: str | None) -> None:
        """Accepted everywhere; our writers wait for each other anyway."""
        if self.restore:
            raise RuleError(f"You cannot use `-{letter}' from {self.restore}")
        text = value if value is not None else self.next_plain()
        self.out.at[letter] = self.opt_at
        if letter == "W":
            self.out.warnings.append("Ignoring deprecated --wait-interval option.\n")
        elif text is not None and not text.strip().isdigit():
            raise RuleError("wait seconds not numeric")

    def option_help(self, letter: str, value: str | None) -> None:
        self.out.help = True

    def option_version(self, letter: str, value: str | None) -> None:
        if self.invert:
            self.out.warnings.append("Not !\n")
        self.out.version = True

    def option_modprobe(self, letter: str, value: str) -> None:
        """Nothing to load."""

    def option_family(self, letter: str, value: str | None) -> None:
        if (letter == "4") == (self.family == 2):
            return
        if self.restore:
            self.out.skip = True
            return
        raise RuleError("", bare=True)          # the tool says only how to get help

    # ---- after the last word ---------------------------------------------------------------------------------------------

    def finish(self) -> None:
        out = self.out
        if out.help or out.version or out.skip:
            return
        self.opt_at = out.at.get("j", len(self.words) - 1)
        if out.table == "nat" and "DROP" in (out.jump, out.argument if out.command == "P" else ""):
            raise RuleError(NAT_DROP)
        if self.env is None:
            self.env = self.make_env()
        self.finish_extensions()
        self.opt_at = len(self.words) - 1
        if "W" in out.at and "w" not in out.at:
            raise RuleError("--wait-interval only makes sense with --wait\n", index=out.at["W"])
        if not out.command:
            raise RuleError("no command specified")
        if self.invert:
            raise RuleError("nothing appropriate following !")
        if out.command in RULE_COMMANDS and not (out.command == "D" and out.number):
            self.check_addresses()
        self.check_combination()
        self.check_chain()

    def finish_extensions(self) -> None:
        """Defaults and cross checks of the matches in their order, then of the target."""
        out = self.out
        if out.matches:
            finished = []
            for draft in out.matches:
                finished.append(draft.ext.finish(draft, self.env))
                if draft.note:
                    out.warnings.append(draft.note)
            out.matches = finished
        if out.target is not None:
            draft = out.target
            out.target = draft.ext.finish(draft, self.env)
            if draft.note:
                out.warnings.append(draft.note)

    def check_addresses(self) -> None:
        out = self.out
        for letter in "sd":
            text = out.sources if letter == "s" else out.destinations
            if letter not in out.given:
                continue
            self.opt_at = out.at[letter]
            found = parse_networks(text, self.family, self.resolver)
            if len(found) > 1 and out.inverted & (INV_SRC | INV_DST):
                raise RuleError("! not allowed with multiple source or destination IP addresses")
            if letter == "s":
                out.sources = found
            else:
                out.destinations = found

    def check_combination(self) -> None:
        """Options that the command does not take."""
        out = self.out
        codes = {out.command if not out.number or out.command not in "DZ" else "#" if out.command == "D" else "z"}
        if out.zero and out.command != "Z":
            codes.add("Z")
        for letter, name, refusing in LIMITED:
            if letter in out.given and all(code in refusing for code in codes):
                raise RuleError(f"Illegal option `--{name}' with this command", index=out.at[letter])

    def check_chain(self) -> None:
        out = self.out
        chain = out.chain
        if chain is None:
            return
        if len(chain.encode(errors="surrogateescape")) > CHAIN_NAME_BYTES:
            raise RuleError(f"chain name `{chain}' too long (must be under 29 chars)", index=out.at.get("chain"))
        if out.command not in RULE_COMMANDS:
            return
        if chain in NO_OUTPUT and "o" in out.given:
            raise RuleError(f"Can't use --out-interface with {chain}\n", index=out.at["o"])
        if chain in NO_INPUT and "i" in out.given:
            raise RuleError(f"Can't use --in-interface with {chain}\n", index=out.at["i"])


COUNTER_MAX = (1 << 64) - 1
DIGITS = re.compile(r"\s*0*([0-9]*)")


def leading_digits(text: str) -> int:
    """A count as sscanf's %llu reads it: what follows the digits is not looked at, what is too large is the largest."""
    found = DIGITS.match(text)
    return min(int(found[1][:21] or "0"), COUNTER_MAX) if found else 0


def parse_networks(text: str, family: int, resolver) -> list[tuple[bytes, bytes]]:
    """`a[/m],b[/m]`: every address with its mask, in order; a name stands for all it resolves to."""
    out: list[tuple[bytes, bytes]] = []
    for part in text.split(","):
        addresses, mask = names.parse_network(part.strip(), family, resolver)
        out += [(address, mask) for address in addresses]
    return out


UNWRITABLE = re.compile(r'[ \t"]')        # in a name: iptables-save prints it as it is, iptables-restore then reads something else


def check_target_name(name: str) -> None:
    if not name:
        raise RuleError("Invalid target name (too short)")
    if len(name.encode(errors="surrogateescape")) > CHAIN_NAME_BYTES:
        raise RuleError(f"Invalid target name `{name}' ({CHAIN_NAME_BYTES} chars max)")
    if any(char.isspace() for char in name):
        raise RuleError(f"Invalid target name `{name}'")


def check_chain_name(name: str, family: int) -> None:
    """What -N and -E ask of a new name."""
    if name[:1] in ("-", "!"):
        raise RuleError(f"chain name not allowed to start with `{name[0]}'")
    if not name or name in STANDARD_TARGETS or find_target(name, family) is not None:
        raise RuleError("chain name may not clash with target name")
    if len(name.encode(errors="surrogateescape")) > CHAIN_NAME_BYTES:
        raise RuleError(f"chain name `{name}' too long (must be under 29 chars)")
    if any(char.isspace() for char in name) or UNWRITABLE.search(name):
        raise RuleError(f"Invalid chain name `{name}'")


def make_rules(command: Command, is_chain, family: int, file: str = "", line: int = 0) -> list[Rule]:
    """The rules a command stands for: one for each pair of source and destination, sources outermost.

    Raises RuleError if the target is neither an extension nor a chain.
    """
    target = make_target(command, is_chain, family)
    sources = command.sources or [None]
    destinations = command.destinations or [None]
    rules = []
    for source in sources:
        source_address, source_mask = asked(source, command.inverted & INV_SRC)
        for destination in destinations:
            address, mask = asked(destination, command.inverted & INV_DST)
            rules.append(Rule(
                source_address, source_mask, address, mask, tidy(command.in_interface, command.inverted & INV_IN),
                tidy(command.out_interface, command.inverted & INV_OUT), command.protocol, "f" in command.given, command.inverted,
                tuple(command.matches), target, command.packets, command.bytes, file, line))
    return rules


def tidy(interface: str, inverted: int) -> str:
    """`-i +` asks nothing; `! -i +` never matches and is kept."""
    return "" if interface == "+" and not inverted else interface


def asked(network, inverted: int):
    """Address and mask, or None twice where they ask nothing: mask 0, not inverted."""
    if network is None or (not inverted and not any(network[1])):
        return None, None
    return network


def make_target(command: Command, is_chain, family: int):
    name = command.jump
    if not name:
        return None
    if command.goto:
        if not is_chain(name):
            raise RuleError(f"goto '{name}' is not a chain", index=command.at["j"])
        return Jump(name, True)
    if is_chain(name):
        if command.target is not None:
            command.warnings.append(f"Warning: using chain {name}, not extension\n")
        return Jump(name)
    if name in VERDICTS:
        return VERDICTS[name]
    if command.target is None:
        raise RuleError(f"Couldn't load target `{name}':No such file or directory\n", index=command.at["j"])
    return command.target


P = Parser
COMMAND = {
    **dict.fromkeys("ACDIR", P.command_rule), **dict.fromkeys("LSFZX", P.command_list),
    "N": P.command_new, "E": P.command_rename, "P": P.command_policy,
}
OPTION = {
    "s": P.option_address, "d": P.option_address, "p": P.option_protocol, "i": P.option_interface, "o": P.option_interface,
    "j": P.option_jump, "g": P.option_jump, "m": P.option_match, "t": P.option_table, "n": P.option_flag, "x": P.option_flag,
    "0": P.option_flag, "f": P.option_flag, "v": P.option_verbose, "c": P.option_counters, "w": P.option_wait,
    "W": P.option_wait, "h": P.option_help, "V": P.option_version, "M": P.option_modprobe, "4": P.option_family, "6": P.option_family,
}
