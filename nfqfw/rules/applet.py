"""The programs iptables, iptables-save and iptables-restore and their IPv6 twins, as one function over a Store.

    run(["iptables", "-A", "INPUT", "-j", "DROP"], store) -> Result(stdout, stderr, code)

No I/O but through the arguments: standard input is text that the caller has read (or a function that reads it), files are
opened by `open_file`, names looked up by `resolver`; so a daemon can run it for a client.  Texts and exit codes are those of
iptables-legacy 1.8.13 (spec/iptables.md 3.1 and appendices A and B).
"""

from __future__ import annotations

import os
from typing import Callable, NamedTuple

from nfqfw.errors import OTHER_PROBLEM, PARAMETER_PROBLEM, VERSION_PROBLEM, NfqfwError, RuleError, RuleErrors
from nfqfw.rules import edit, restore
from nfqfw.rules.grammar import DEFAULT_RESOLVER, Command, Parser
from nfqfw.rules.lexer import CONTROL
from nfqfw.rules.listings import Style, change_line, listing
from nfqfw.rules.model import BUILTIN_CHAINS, Ruleset, Table
from nfqfw.rules.saving import VERSION, save, specs
from nfqfw.rules.validate import check, check_size

DMESG = ". Run `dmesg' for more information."
# errno -> text, where it depends on the command
INDEX_TEXT = {"I": "insertion", "D": "deletion", "R": "replacement", "Z": "counter"}
READING = frozenset("LS")


class Done(Exception):
    """-h or -V inside a restore: the program ends there, and commits nothing."""


class Result(NamedTuple):
    stdout: str
    stderr: str
    code: int
    detail: str = ""                # what the kernel would have written into its log


class Call:
    """One run: who is called, with what, and what it has printed so far."""

    def __init__(self, program: str, family: int, store, stdin, resolver, open_file):
        self.program = program                  # name in messages
        self.family = family
        self.store = store
        self.stdin = stdin
        self.resolver = resolver
        self.open_file = open_file
        self.out: list[str] = []
        self.err: list[str] = []
        self.detail = ""

    def result(self, code: int) -> Result:
        return Result("".join(self.out), "".join(self.err), code, self.detail)

    def read_stdin(self) -> str:
        return self.stdin() if callable(self.stdin) else self.stdin


def run(argv: list[str], store, stdin: str | Callable[[], str] = "", resolver=DEFAULT_RESOLVER, open_file=None) -> Result:
    """Run a program by its name argv[0]; `xtables-legacy-multi NAME ...` runs NAME."""
    argv = list(argv) or ["iptables"]
    name = os.path.basename(argv[0])
    if name.startswith("xtables-") and len(argv) > 1:
        argv = argv[1:]
        name = os.path.basename(argv[0])
    name = name.replace("-legacy", "").replace("main4", "iptables").replace("main6", "ip6tables")
    family = 10 if name.startswith("ip6tables") else 2
    call = Call(name, family, store, stdin, resolver, open_file or open_plain)
    kind = name.partition("-")[2]
    try:
        return PROGRAMS.get(kind, run_iptables)(call, argv[1:])
    except (RuleErrors, NfqfwError) as error:
        call.err.append(f"{call.program}: {error}\n" + (f"{error.fix}\n" if error.fix else ""))
        return call.result(error.code or OTHER_PROBLEM)


def open_plain(path: str, mode: str):
    return open(path, mode, encoding="utf-8", errors="surrogateescape", newline="\n")


# ---- iptables ----------------------------------------------------------------------------------------------------------

def run_iptables(call: Call, args: list[str]) -> Result:
    try:
        refuse_control(args)
        parser = Parser(args, call.family, resolver=call.resolver)
        try:
            command = parser.parse()
        finally:
            call.err += parser.out.warnings
            parser.out.warnings = []
        if command.help or command.version:
            call.out.append(help_text(call, command) if command.help else f"{call.program} v{VERSION} (legacy)\n")
            return call.result(0)
        return execute(call, command)
    except (RuleError, RuleErrors) as error:
        return failed(call, error, command_letter(locals().get("command")))


def refuse_control(args: list[str]) -> None:
    """As in files: what is saved must be one line a rule, and read back the same (a named difference)."""
    for word in args:
        if found := CONTROL.search(word):
            raise RuleError(f"control character {found.group()!r} in the argument")


def command_letter(command: Command | None) -> str:
    return command.command if command is not None else ""


def execute(call: Call, command: Command) -> Result:
    if command.table not in BUILTIN_CHAINS:
        raise RuleError(f"can't initialize {call.program} table `{command.table}': Table does not exist (do you need to insmod?)",
                        code=VERSION_PROBLEM)
    reading = command.command in READING and not command.zero
    with call.store.transaction(write=not reading):
        if command.command in READING:
            show(call, command)
        else:
            change(call, command)
    call.err += command.warnings
    return call.result(0)


def style_of(call: Call, command: Command) -> Style:
    given = command.given
    return Style(call.family, "n" in given, bool(command.verbose), "x" in given, "0" in given, call.resolver)


def show(call: Call, command: Command) -> None:
    """-L and -S, with -Z or without."""
    wanted = command.verbose > 0
    if command.zero:
        ruleset = call.store.ruleset(call.family)
        editor = edit.Editor(ruleset.table(command.table))
        zero = Command(command.table)
        zero.command, zero.chain = "Z", command.chain
        zero.number = command.number if command.zero_number else 0
        restore.apply(editor, zero, call.family)
        old = call.store.commit({call.family: ruleset.with_table(editor.finish())}, counted=wanted)
        ruleset = old[call.family] if wanted else ruleset
    else:
        ruleset = call.store.counted(call.family) if wanted else call.store.ruleset(call.family)
    table = ruleset.table(command.table)
    if command.chain is not None and command.chain not in table.chains:
        raise edit.refused("ENOENT")
    if command.command == "L":
        call.out.append(listing(table, style_of(call, command), command.chain, command.number))
    else:
        call.out.append(specs(table, command.chain, command.number, wanted))


def change(call: Call, command: Command) -> None:
    """Everything that changes rules; -C only looks."""
    ruleset = call.store.ruleset(call.family)
    editor = edit.Editor(ruleset.table(command.table))
    rules = restore.apply(editor, command, call.family)
    if command.verbose:
        call.out += verbose_lines(call, command, rules, editor)
    if command.command != "C" and editor.changed:
        new = ruleset.with_table(editor.finish())
        check(new, [command.table], call.store.policies)
        call.store.commit({call.family: new})


def verbose_lines(call: Call, command: Command, rules: list, editor) -> list[str]:
    style = Style(call.family, numeric=True, resolver=call.resolver)
    verb = {"F": "Flushing", "X": "Deleting", "Z": "Zeroing"}.get(command.command)
    if verb is None:
        return [change_line(rule, style) + "\n" for rule in rules]
    if command.number:
        return []
    chains = editor.original.ordered_chains() if command.command != "X" else editor.original.user_chains()
    names = [command.chain] if command.chain is not None else [chain.name for chain in chains]
    return [f"{verb} chain `{name}'\n" for name in names]


def failed(call: Call, error: RuleError | RuleErrors, letter: str) -> Result:
    """Standard error and exit code for a mistake in a command of its own."""
    if isinstance(error, RuleErrors):
        call.detail = "\n".join(e.message for e in error.errors)
        error = error.errors[0]
    if error.errno_name:
        call.err.append(f"{call.program}: {errno_text(error, letter)}\n")
        return call.result(OTHER_PROBLEM)
    print_error(call, error)
    if error.code == PARAMETER_PROBLEM:
        call.err.append(hint(call))
    elif error.code == VERSION_PROBLEM:
        call.err.append(f"Perhaps {call.program} or your kernel needs to be upgraded.\n")
    return call.result(error.code)


def print_error(call: Call, error: RuleError) -> None:
    if error.bare:
        call.err.append(f"{error.message}\n" if error.message else "")
    else:
        call.err.append(f"{call.program} v{VERSION} (legacy): {error.message}\n")


def hint(call: Call) -> str:
    return f"Try `{call.program} -h' or '{call.program} --help' for more information.\n"


def errno_text(error: RuleError, letter: str) -> str:
    name = error.errno_name
    if name == "E2BIG":
        return f"Index of {INDEX_TEXT[letter]} too big."
    if name == "EEXIST" and letter == "N":
        return "Chain already exists."
    return restore.ERRNO_TEXT[name] + (DMESG if name in ("EINVAL", "BADPOLICY") else ".")


# ---- iptables-save -----------------------------------------------------------------------------------------------------

def split_options(args: list[str], letters: dict[str, int], longs: dict[str, str]):
    """getopt for the small programs: yields (letter, value); 0 in `letters` takes none, 1 one, 2 perhaps one.  Words that
    are no options come as ("", word), what is unknown as ("?", word)."""
    args = list(args)
    while args:
        word = args.pop(0)
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            found = [long for long in longs if long == name] or [long for long in longs if long.startswith(name)]
            if len({longs[long] for long in found}) != 1:
                yield "?", word
                continue
            letter = longs[found[0]]
            yield letter, (value if equals else args.pop(0) if letters[letter] == 1 and args else None)
        elif len(word) > 1 and word[0] == "-":
            letter, rest = word[1], word[2:]
            if letter not in letters:
                yield "?", f"-{letter}"
            elif letters[letter] == 0:
                yield letter, None
                if rest:
                    args.insert(0, "-" + rest)
            else:
                take = letters[letter] == 1 or (args and args[0][:1] not in ("-", "!") and letter in "wW")
                yield letter, rest or (args.pop(0) if take and args else None)
        else:
            yield "", word


SAVE_LETTERS = {"c": 0, "d": 0, "t": 1, "M": 1, "f": 1, "V": 0}
SAVE_LONGS = {"counters": "c", "dump": "d", "table": "t", "modprobe": "M", "file": "f", "version": "V"}


def unrecognized(call: Call, word: str, last: str) -> Result:
    what = f"unrecognized option '{word}'" if word.startswith("--") else f"invalid option -- '{word[1:]}'"
    call.err.append(f"{call.program}: {what}\n{last}")
    return call.result(OTHER_PROBLEM)


def run_save(call: Call, args: list[str]) -> Result:
    counters, tables, path = False, None, None
    for letter, value in split_options(args, SAVE_LETTERS, SAVE_LONGS):
        if letter == "?":
            return unrecognized(call, value, f"Look at manual page `{call.program}.8' for more information.\n")
        if letter == "":
            call.err.append("Unknown arguments found on commandline\n")
            return call.result(OTHER_PROBLEM)
        if letter == "V":
            call.out.append(f"{call.program} v{VERSION} (legacy)\n")
            return call.result(0)
        counters = counters or letter == "c"
        tables = [value] if letter == "t" else tables
        path = value if letter == "f" else path
    if tables and tables[0] not in BUILTIN_CHAINS:
        call.err.append(f"{call.program} v{VERSION} (legacy): Cannot initialize: Table does not exist (do you need to insmod?)\n")
        return call.result(OTHER_PROBLEM)
    with call.store.transaction(write=False):
        text = save(call.store.counted(call.family), counters, tables)
    if path is None:
        call.out.append(text)
        return call.result(0)
    try:
        with call.open_file(path, "w") as file:
            file.write(text)
    except OSError as error:
        call.err.append(f"Failed to open file, error: {error.strerror}\n")
        return call.result(OTHER_PROBLEM)
    return call.result(0)


# ---- iptables-restore --------------------------------------------------------------------------------------------------

RESTORE_LETTERS = {"b": 0, "c": 0, "v": 0, "V": 0, "t": 0, "h": 0, "n": 0, "T": 1, "M": 1, "w": 2, "W": 2}
RESTORE_LONGS = {"counters": "c", "verbose": "v", "version": "V", "test": "t", "help": "h", "noflush": "n", "table": "T",
                 "modprobe": "M", "wait": "w", "wait-interval": "W"}
RESTORE_USAGE = """Usage: {0} [-c] [-v] [-V] [-t] [-h] [-n] [-w secs] [-W usecs] [-T table] [-M command] [file]
\t   [ --counters ]
\t   [ --verbose ]
\t   [ --version]
\t   [ --test ]
\t   [ --help ]
\t   [ --noflush ]
\t   [ --wait=<seconds>
\t   [ --table=<TABLE> ]
\t   [ --modprobe=<command> ]
"""


def run_restore(call: Call, args: list[str]) -> Result:
    options, path, given = restore.Options(), None, set()
    for letter, value in split_options(args, RESTORE_LETTERS, RESTORE_LONGS):
        if letter == "?":
            return unrecognized(call, value, f"Try `{call.program} -h' for more information.\n")
        if letter in ("V", "h"):
            call.out.append(f"{call.program} v{VERSION} (legacy)\n" if letter == "V" else "")
            call.err.append(RESTORE_USAGE.format(call.program) if letter == "h" else "")
            return call.result(0)
        if letter == "W":
            call.err.append("Ignoring deprecated --wait-interval option.\n")
        given.add(letter)
        options.counters |= letter == "c"
        options.test |= letter == "t"
        options.noflush |= letter == "n"
        options.verbose += letter == "v"
        options.table = value if letter == "T" else options.table
        if letter == "" and path is not None:
            call.err.append("Unknown arguments found on commandline\n")
            return call.result(OTHER_PROBLEM)
        path = value if letter == "" else path
    if "W" in given and "w" not in given:
        call.err.append("Option --wait-interval requires option --wait\n")
        return call.result(OTHER_PROBLEM)
    try:
        text = read_file(call, path) if path is not None else call.read_stdin()
    except OSError as error:
        call.err.append(f"Can't open {path}: {error.strerror}\n")
        return call.result(OTHER_PROBLEM)
    return restore_text(call, text, options, path or "")


def read_file(call: Call, path: str) -> str:
    with call.open_file(path, "r") as file:
        return file.read()


def restore_text(call: Call, text: str, options: restore.Options, path: str) -> Result:
    """All tables of the text or none: nothing is committed before the last line is read (a named improvement)."""
    with call.store.transaction(write=not options.test):
        ruleset = call.store.ruleset(call.family)
        restorer = restore.Restorer(ruleset, options, path, call.program, call.resolver)
        restorer.run = lambda command: restore_command(call, restorer, command)
        restorer.note = call.out.append
        try:
            with restore.collector_paused(len(text)):
                for line in restorer.lines(restore.encoded(text, path)):
                    commits = len(restorer.committed)
                    restorer.feed(line)
                    if len(restorer.committed) != commits and not options.test:
                        check(Ruleset(call.family, {restorer.committed[-1].name: restorer.committed[-1]}), None, call.store.policies)
            check_size(restorer.finish())
            if restorer.editor is not None or restorer.skipping:
                call.err.append(f"{call.program}: COMMIT expected at line {restorer.line + 1}\n")
                return call.result(OTHER_PROBLEM)
        except Done:
            return call.result(0)
        except (RuleError, RuleErrors) as error:
            return restore_failed(call, error, restorer.line)
        if not options.test and restorer.committed:
            call.store.commit({call.family: restorer.finish()})
    return call.result(0)


def restore_command(call: Call, restorer: restore.Restorer, command: Command) -> None:
    """A command inside a restore."""
    call.err += command.warnings
    command.warnings = []
    if command.help or command.version:
        call.out.append(help_text(call, command) if command.help else f"{call.program} v{VERSION} (legacy)\n")
        raise Done
    editor = restorer.editor
    if command.command in READING:
        table: Table = editor.finish()
        if command.chain is not None and command.chain not in table.chains:
            raise edit.refused("ENOENT")
        call.out.append(listing(table, style_of(call, command), command.chain, command.number) if command.command == "L"
                        else specs(table, command.chain, command.number, command.verbose > 0))
        return
    rules = restore.apply(editor, command, call.family, restorer.file, restorer.line)
    call.err += command.warnings
    if command.verbose or restorer.tells:
        command.verbose = 1
        call.out += verbose_lines(call, command, rules, editor)


def restore_failed(call: Call, error: RuleError | RuleErrors, number: int) -> Result:
    if isinstance(error, RuleErrors):
        call.detail = str(error)
        error = error.errors[0]
    if error.errno_name:
        call.detail = call.detail or error.message
        call.err.append(f"{call.program}: line {number} failed\n")
        return call.result(OTHER_PROBLEM)
    print_error(call, error)
    if error.code == PARAMETER_PROBLEM:
        call.err.append(f"Error occurred at line: {number}\n{hint(call)}")
    return call.result(error.code)


def help_text(call: Call, command: Command) -> str:
    from nfqfw.rules.usage import usage
    loaded = ([command.target.ext] if command.target else []) + [draft.ext for draft in command.matches]
    return usage(call.program, VERSION, call.family, loaded)


PROGRAMS: dict[str, Callable[[Call, list[str]], Result]] = {"": run_iptables, "save": run_save, "restore": run_restore}
