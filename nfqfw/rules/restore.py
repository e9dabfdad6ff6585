"""iptables-restore text -> Ruleset, line by line.

`Restorer` holds what is common: the tables under change and the meaning of each line.  `load` reads a whole file and reports every
mistake in it; the applet's restore (rules.applet) stops at the first, as the tool does.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager

from nfqfw.errors import OTHER_PROBLEM, RESOURCE_PROBLEM, RuleError, RuleErrors, Span
from nfqfw.ext.names import FileResolver
from nfqfw.ext.registry import STANDARD_TARGETS
from nfqfw.limits import CHAIN_NAME_BYTES, MISTAKES_MAX, RESTORE_LINE_BYTES, RULES_MAX
from nfqfw.rules import lexer
from nfqfw.rules._scan import Scanner
from nfqfw.rules.edit import Editor
from nfqfw.rules.grammar import DEFAULT_RESOLVER, Command, Parser, leading_digits, make_rules
from nfqfw.rules.model import BUILTIN_CHAINS, Ruleset, Table

FILE_RESOLVER = FileResolver()
COUNTS = re.compile(r"\[(\d+):(\d+)\]\Z", re.ASCII)


class Options:
    """Options of iptables-restore."""

    __slots__ = ("counters", "noflush", "test", "verbose", "table")

    def __init__(self, counters=False, noflush=False, test=False, verbose=0, table=""):
        self.counters = counters
        self.noflush = noflush
        self.test = test
        self.verbose = verbose
        self.table = table                  # the only table to restore, "" = all


class Restorer:
    """One run of a restore over the tables of `ruleset`; the result is `finish()`."""

    def __init__(self, ruleset: Ruleset, options: Options, file: str = "", program: str = "iptables-restore",
                 resolver=DEFAULT_RESOLVER, run=None):
        self.ruleset = ruleset
        self.options = options
        self.file = file
        self.program = program
        self.resolver = resolver
        self.run = run or self.run_command          # what executes a command of a line
        self.editor: Editor | None = None           # of the table between *name and COMMIT
        self.scanner: Scanner | None = None         # the quick way for its lines
        self.skipping = False                       # inside a table that -T leaves out
        self.committed: list[Table] = []
        self.line = 0
        self.rules = 0                              # lines of rules read so far
        self.note = lambda text: None               # verbose output
        self.seen: set[str] = set()                 # chains declared in this table

    @property
    def tells(self) -> bool:
        """Whether -v prints each rule: beside -n the tool prints remarks alone."""
        return self.options.verbose > 0 and not self.options.noflush

    def finish(self) -> Ruleset:
        ruleset = self.ruleset
        for table in self.committed:
            ruleset = ruleset.with_table(table)
        return ruleset

    def current(self, name: str) -> Table:
        """The table as this run left it so far."""
        for table in reversed(self.committed):
            if table.name == name:
                return table
        return self.ruleset.table(name)

    def lines(self, data: bytes) -> Iterator[str]:
        """Each line that has to be fed, with its newline if it has one; `self.line` is its number.

        Lines that are plainly rules in the form that save prints are taken at once and do not come out.
        """
        at, end = 0, len(data)
        while at < end:
            if self.editor is not None and not self.tells:
                at, number = self.scanner.run(data, at, self.line + 1, RULES_MAX - self.rules, self.editor, self.options.counters, self.file)
                self.rules += number - 1 - self.line            # a line each
                self.line = number - 1
                if at == end:
                    return
            stop = data.find(b"\n", at) + 1 or end
            self.line += 1
            yield data[at:stop].decode(errors="surrogateescape")
            at = stop

    def feed(self, text: str) -> None:
        """One line with its newline, if it has one."""
        if text == "\n":
            return
        if text.startswith("#"):
            if self.options.verbose:
                self.note(text)
            return
        inside = self.editor is not None or self.skipping
        if text == "COMMIT\n" and inside:
            self.commit()
        elif text.startswith("*") and not inside:
            self.start_table(text)
        elif self.skipping:
            return
        elif text.startswith(":") and inside:
            self.declare_chain(text)
        elif inside:
            self.rule_line(text)
        else:
            raise RuleError("this line stands outside of a table" if text.strip() else "a blank line with spaces", code=OTHER_PROBLEM,
                            errno_name="LINE")

    # ---- lines -----------------------------------------------------------------------------------------------------------

    def start_table(self, text: str) -> None:
        words = re.split(r"[ \t\n]+", text[1:].lstrip(" \t\n"))
        name = words[0]
        if not name:
            raise RuleError(f"{self.program}: line {self.line} table name invalid")
        if self.options.table and name != self.options.table:
            self.skipping = True
            return
        if name not in BUILTIN_CHAINS:
            raise RuleError(f"{self.program}: unable to initialize table '{name}'", offset=1)
        self.editor = Editor(self.current(name))
        self.editor.changed = True
        self.seen = set()
        if not self.options.noflush:
            self.clear()
        self.scanner = Scanner(self.ruleset.family, name, self.editor.chains, self.resolver)

    def clear(self) -> None:
        """All rules and user chains go; policies and their counts stay."""
        editor = self.editor
        if self.options.verbose:
            chains = editor.original.ordered_chains()
            for chain in chains:
                self.note(f"Flushing chain `{chain.name}'\n")
            for chain in chains:
                if chain.policy is None:
                    self.note(f"Deleting chain `{chain.name}'\n")
        for chain in list(editor.chains.values()):
            if chain.policy is None:
                del editor.chains[chain.name]
            elif chain.rules:
                editor.flush(chain.name)

    def commit(self) -> None:
        if self.editor is not None:
            self.committed.append(self.editor.finish())
        self.editor, self.skipping = None, False

    def declare_chain(self, text: str) -> None:
        words = text[1:].split()
        if not words:
            raise RuleError(f"{self.program}: line {self.line} chain name invalid")
        name = words[0]
        if len(name.encode(errors="surrogateescape")) > CHAIN_NAME_BYTES:
            raise RuleError(f"Invalid chain name `{name}' ({CHAIN_NAME_BYTES} chars max)", offset=1)
        editor = self.editor
        if name not in BUILTIN_CHAINS[editor.name]:
            self.declare_user_chain(name)
        if len(words) < 2:
            raise RuleError(f"{self.program}: line {self.line} policy invalid", offset=1)
        self.declare_policy(name, words[1], words[2] if len(words) > 2 else None)

    def declare_user_chain(self, name: str) -> None:
        editor = self.editor
        if self.options.noflush and name in editor.chains:
            editor.flush(name)
        elif name in editor.chains or name in STANDARD_TARGETS:
            raise RuleError(f"error creating chain '{name}':File exists", offset=1)
        else:
            editor.new_chain(name, self.file, self.line)

    def declare_policy(self, name: str, policy: str, counts_text: str | None) -> None:
        if policy == "-":
            return
        editor = self.editor
        counts = None
        if counts_text is not None or self.options.counters:
            found = COUNTS.match(counts_text or "")
            if found is None:
                raise RuleError(f"invalid policy counters for chain '{name}'", offset=1)
            counts = leading_digits(found[1]), leading_digits(found[2])
        try:
            editor.set_policy(name, policy, counts if self.options.counters else None)
        except RuleError as error:
            what = {"NOBUILTIN": "Bad built-in chain name", "BADPOLICY": "Bad policy name"}[error.errno_name]
            raise RuleError(f"Can't set policy `{policy}' on `{name}' line {self.line}: {what}", code=OTHER_PROBLEM,
                            offset=1) from None

    def rule_line(self, text: str) -> None:
        if len(text) > RESTORE_LINE_BYTES and len(text.encode(errors="surrogateescape")) > RESTORE_LINE_BYTES:
            raise RuleError("Parameter too long!")
        if self.rules >= RULES_MAX:
            raise too_many_rules()
        self.rules += 1
        counts, start = None, 0
        if text.startswith("["):
            counts, start = self.rule_counts(text)
        line = text[start:-1] if text.endswith("\n") else text[start:]
        try:
            words = lexer.split(line)
            command = Parser(words, self.ruleset.family, self.editor.name, self.program, self.resolver).parse()
            if command.skip:
                return
            if counts and self.options.counters:
                command.packets, command.bytes = counts
            self.run(command)
        except RuleError as error:
            place(error, locals().get("words") or [], start, text)
            raise

    def rule_counts(self, text: str) -> tuple[tuple[int, int], int]:
        """Counts in front of a command, and where the command starts."""
        end = text.find("]")
        packets, colon, byte_count = text[1:end].partition(":")
        if end < 0 or not colon:
            raise RuleError(f"Bad line {self.line}: need ]")
        for value, what in ((packets, "packet"), (byte_count, "byte")):
            if not is_number(value) and self.options.counters:
                raise RuleError(f"-c {what} counter not numeric", offset=1)
        if not is_number(packets) or not is_number(byte_count):
            return (0, 0), end + 1
        return (leading_digits(packets), leading_digits(byte_count)), end + 1

    def run_command(self, command: Command) -> None:
        """Commands that change rules; the applet has its own, which also lists and helps."""
        if command.help or command.version:             # and what stands beside it was not looked at
            raise RuleError("a line that asks for help or the version is no rule")
        apply(self.editor, command, self.ruleset.family, self.file, self.line)


def is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def too_many_rules() -> RuleError:
    return RuleError(f"more than {RULES_MAX:,} rules", code=RESOURCE_PROBLEM)


def apply(editor: Editor, command: Command, family: int, file: str = "", line: int = 0) -> list:
    """Do to a table what a command asks.  Returns the rules that -v would print."""
    letter, chain = command.command, command.chain
    if letter in "ACDIR" and not (letter == "D" and command.number):
        rules = make_rules(command, editor.is_chain, family, file, line)
        if letter == "A":
            editor.append(chain, rules)
        elif letter == "I":
            editor.insert(chain, command.number, rules)
        elif letter == "R":
            editor.replace(chain, command.number, rules[0])
        elif letter == "D":
            for rule in rules:
                editor.delete(chain, rule)
        else:
            for rule in rules:
                if editor.find(chain, rule) < 0:
                    raise editor.no_match(chain, rule)
        return rules
    if letter == "D":
        editor.delete_number(chain, command.number)
    elif letter == "N":
        editor.new_chain(chain, file, line)
    elif letter == "E":
        editor.rename(chain, command.argument)
    elif letter == "P":
        editor.set_policy(chain, command.argument, (command.packets, command.bytes) if "c" in command.given else None)
    elif letter == "F":
        for name in [chain] if chain is not None else list(editor.chains):
            editor.flush(name)
    elif letter == "X" and chain is not None:
        editor.delete_chain(chain)
    elif letter == "X":
        editor.delete_chains()
    elif letter == "Z" and command.number:
        editor.zero_number(chain, command.number)
    elif letter == "Z":
        for name in [chain] if chain is not None else list(editor.chains):
            editor.zero(name)
    return []


def place(error: RuleError, words: list, start: int, text: str) -> None:
    """Turn the index of a word, or an offset into the line, into column and length (kept in `index` and `offset`)."""
    if error.span is not None:
        return
    column, length = start + error.offset + 1, 1
    if error.index is not None and words:
        word = words[min(error.index, len(words) - 1)]
        inside = error.offset + (1 if word.quoted else 0) if error.offset else 0
        column = start + word.column + inside
        length = max(1, word.length - inside)
    error.span = Span("", 0, column, length, text.rstrip("\n"))


def load(text: str, name: str = "", family: int = 2, counters: bool = True, resolver=FILE_RESOLVER) -> Ruleset:
    """A ruleset from iptables-save text.  Raises RuleErrors with every mistake, of which it reads at most MISTAKES_MAX.

    Tables keep the order of the text.  Counts in the text are taken over unless `counters` is off; where a line has none, they
    start at 0.  Rules and chains remember `name` and the number of their line.
    """
    restorer = Restorer(Ruleset(family), Options(counters=False), name, "iptables-restore" if family == 2 else "ip6tables-restore", resolver)
    restorer.options.counters = counters
    errors: list[RuleError] = []
    with collector_paused(len(text)):
        for line in restorer.lines(encoded(text, name)):
            try:
                feed_leniently(restorer, line.removesuffix("\n"))
            except RuleError as error:
                errors.append(located(error, name, restorer.line, line.removesuffix("\n")))
                if len(errors) >= MISTAKES_MAX or restorer.rules >= RULES_MAX:
                    raise RuleErrors(errors) from None
    if restorer.editor is not None:
        lines = text.split("\n")
        last = len(lines)
        errors.append(RuleError(f"COMMIT expected at line {last}", Span(name, last - 1, 1, 1, lines[-2] if last > 1 else ""), OTHER_PROBLEM))
    if errors:
        raise RuleErrors(errors)
    order = list(dict.fromkeys(table.name for table in restorer.committed))
    return Ruleset(family, {table: restorer.current(table) for table in order})


MANY_CHARACTERS = 1 << 20            # of text, from which on its rules are taken out of the collector's sight


@contextmanager
def collector_paused(size: int):
    """No cyclic garbage collection meanwhile: a ruleset is made of long-lived objects without cycles, and each pass over
    the growing heap costs as much as reading the rules.  After a large text (`size` characters) what is alive is frozen: later
    passes do not look at it; it still goes when nothing refers to it."""
    enabled = gc.isenabled()
    if enabled and size >= MANY_CHARACTERS:
        gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if size >= MANY_CHARACTERS:
                gc.freeze()
            gc.enable()


def encoded(text: str, name: str = "") -> bytes:
    """The bytes of a text; what is no text stays as the bytes it was read from."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        before = text[:error.start]
        line = before.count("\n") + 1
        raise RuleErrors([RuleError(f"character {text[error.start]!a} is no text", Span(name, line, error.start - before.rfind("\n"), 1, ""))]) from None


def feed_leniently(restorer: Restorer, line: str) -> None:
    """A line whose counts may be missing, as most files have none; a last line without newline counts as whole."""
    if restorer.options.counters and line.startswith(":") and "[" not in line:
        restorer.options.counters = False
        try:
            restorer.feed(line + "\n")
        finally:
            restorer.options.counters = True
        return
    restorer.feed(line + "\n")


def located(error: RuleError, name: str, number: int, line: str) -> RuleError:
    span = error.span
    error.span = Span(name, number, span.column, span.length, line) if span else \
        Span(name, number, error.offset + 1, max(1, len(line.rstrip()) - error.offset), line)
    if error.errno_name:
        error.message = ERRNO_TEXT.get(error.errno_name, error.message)
    return error


# what libiptc says for an errno, and for four of its own cases; "." and the hint at dmesg are the applet's
ERRNO_TEXT = {
    "ENOENT": "No chain/target/match by that name", "EEXIST": "File exists", "E2BIG": "Index too big", "EINVAL": "Invalid argument",
    "ELOOP": "Too many levels of symbolic links", "EMLINK": "Too many links", "ENOTEMPTY": "Directory not empty",
    "ERANGE": "Numerical result out of range", "EIO": "Input/output error", "EOPNOTSUPP": "Operation not supported",
    "NOMATCH": "Bad rule (does a matching rule exist in that chain?)", "NOBUILTIN": "Bad built-in chain name",
    "BADPOLICY": "Bad policy name", "EBUSY": "Device or resource busy", "ENOMEM": "Cannot allocate memory",
    "EPROTONOSUPPORT": "Protocol not supported", "LINE": "this line stands outside of a table",
}
