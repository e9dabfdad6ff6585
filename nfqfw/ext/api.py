"""How a match or a target is declared.

One room per extension: a class whose decorator names it and lists its options.  Reading, the checks of options against
each other, save and help come from the declaration; the class adds what is its own:

    @match("length", Opt("length", "u16:range", required=True, invert=True, help="..."))
    class Length:
        def show(self, use, numeric, names): ...    # what -L prints for it, without the space in front
        def lower(self, use, rule): ...             # -> list of lowering.Test (match), lowering.Action (target)

and, where needed:

    read_KEY(self, draft, opt, text, env)   reads one option in its own way
    final(self, draft, env)                 last look: defaults, checks across options; raises RuleError
    save(self, use)                         prints the options for save and -S, with a space in front of each
    check(self, use, rule)                  the kernel's own refusal that is not in `only`; raises KernelRefusal

`only` is the kernel's restriction as data: tables, hooks, protocols (spec/iptables.md 1).
"""

from __future__ import annotations

from typing import Iterable, NamedTuple

from nfqfw.errors import RuleError
from nfqfw.ext.values import TYPES

MATCH, TARGET = "match", "target"
PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
HOOK_NAMES = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
NONE: frozenset[str] = frozenset()


class Opt:
    """One option of an extension."""

    __slots__ = ("name", "type", "key", "aliases", "required", "invert", "multi", "excludes", "needs", "low", "high",
                 "once", "metavar", "help", "reader", "text", "takes", "words")

    def __init__(self, name: str, type: str = "none", *, key: str | None = None, aliases: tuple[str, ...] = (),
                 required: bool = False, invert: bool = False, multi: bool = False, excludes: tuple[str, ...] = (),
                 needs: tuple[str, ...] = (), low: int = 0, high: int | None = None, once: str = "", metavar: str = "",
                 help: str = "", words: int = 1):
        self.name = name
        self.type = type                    # key of values.TYPES; "none" takes no argument; "own" is read by read_KEY
        self.key = key or name.replace("-", "_")
        self.aliases = aliases              # other spellings
        self.required = required
        self.invert = invert                # `!` allowed
        self.multi = multi                  # may be given again
        self.excludes = excludes            # names of options that cannot stand with it
        self.needs = needs                  # names of options that must stand with it
        self.low = low                      # smallest value; of a string: fewest characters
        self.high = high                    # largest value; of a string: most bytes
        self.once = once                    # what to say when it is given twice, where that is not the usual text
        self.metavar = metavar
        self.help = help
        self.takes = type != "none"
        self.words = words if self.takes else 0     # arguments; those after the first are read by `draft.more()`
        value_type = TYPES.get(type)
        self.reader = value_type.read if value_type else None
        self.text = value_type.text if value_type else str


class Env(NamedTuple):
    """What the reading of an option may depend on."""

    family: int                             # 2 or 10
    protocol: int                           # of -p, 0 = none
    protocol_inverted: bool
    table: str
    resolver: object                        # names.Resolver


class Draft:
    """An extension's options while they are read."""

    __slots__ = ("ext", "values", "inverted", "seen", "more", "typed", "note")

    def __init__(self, ext: "Extension"):
        self.ext = ext
        self.values: dict[str, object] = {}
        self.inverted: set[str] = set()
        self.seen: dict[str, Opt] = {}      # options given, by name
        self.more = None                    # takes one more argument of the command line, None if there is none
        self.typed = ""                     # the option at hand, as it was typed
        self.note = None                    # says something on standard error that is no mistake


class Use:
    """A match or target as a rule has it.  Equal if the kernel would see the same data."""

    __slots__ = ("ext", "values", "inverted", "saved", "lowered")

    def __init__(self, ext: "Extension", values: dict[str, object], inverted: frozenset[str] = NONE):
        self.ext = ext
        self.saved: str | None = None       # what `text` made
        self.lowered = None                 # what the compiler made of it; see Extension.lasting
        self.values = values
        self.inverted = inverted

    @property
    def name(self) -> str:
        return self.ext.name

    def text(self) -> str:
        """`NAME --option value ...` as save prints it behind -m or -j."""
        if self.saved is None:
            self.saved = self.ext.name + self.ext.save(self)
        return self.saved

    def __eq__(self, other) -> bool:
        if not isinstance(other, Use):
            return NotImplemented
        return self is other or (self.ext is other.ext and self.values == other.values and self.inverted == other.inverted)

    def __hash__(self) -> int:
        return hash((self.ext.name, tuple(self.values)))

    def __repr__(self) -> str:
        return f"<{self.ext.kind} {self.ext.name}{self.ext.save(self)}>"


class Only(NamedTuple):
    """Where the kernel accepts an extension.  Empty = anywhere."""

    tables: tuple[str, ...] = ()
    hooks: tuple[int, ...] = ()
    protocols: tuple[int, ...] = ()


class KernelRefusal(Exception):
    """The kernel would refuse the rule: name of the errno, and what it would write into its log ('' = nothing)."""

    def __init__(self, errno_name: str, message: str = ""):
        super().__init__(message)
        self.errno_name = errno_name
        self.message = message


class Extension:
    """A registered extension; one object each."""

    kind = MATCH
    name = ""
    opts: tuple[Opt, ...] = ()
    families: tuple[int, ...] = (2, 10)
    only = Only()
    listed_as = ""                          # name in the target column of -L, where it is not the own one
    listed_behind = " "                     # what -L puts in front of its words
    check = None
    check_needs_hooks = False               # check looks at the hooks that reach the rule
    lasting = True                          # `lower` depends on the use and the rule's -p alone: its result may be kept

    def __init__(self):
        self.by_name = {spelling: opt for opt in self.opts for spelling in (opt.name, *opt.aliases)}
        self.readers = {opt.name: getattr(self, "read_" + opt.key, None) for opt in self.opts}
        self.restricted = bool(any(self.only)) or self.check is not None
        self.hooked = bool(self.only.hooks) or self.check_needs_hooks
        self.protocol_only = bool(self.only.protocols) and not (self.only.tables or self.hooked or self.check)
        self.required = tuple(opt for opt in self.opts if opt.required)
        self.related = any(opt.excludes or opt.needs for opt in self.opts)

    # ---- reading ---------------------------------------------------------------------------------------------------------

    def read(self, draft: Draft, opt: Opt, text: str | None, inverted: bool, env: Env) -> None:
        """One option of the command line."""
        if opt.name in draft.seen and not opt.multi:
            raise RuleError(opt.once or f'{self.name}: option "--{opt.name}" can only be used once.\n')
        if inverted and not opt.invert:
            raise RuleError(f'{self.name}: option "--{opt.name}" cannot be inverted.\n')
        draft.seen[opt.name] = opt
        reader = self.readers[opt.name]
        if reader is not None:
            reader(draft, opt, text, env)
        else:
            draft.values[opt.key] = opt.reader(text, opt, self.name, env) if opt.reader else True
        if inverted:
            draft.inverted.add(opt.key)

    def finish(self, draft: Draft, env: Env) -> Use:
        """The finished use; raises RuleError if options are missing or do not go together."""
        if self.required:
            for opt in self.required:
                if opt.name not in draft.seen:
                    raise RuleError(f'{self.name}: option "--{opt.name}" must be specified\n')
        if self.related:
            self.check_relations(draft.seen)
        self.final(draft, env)
        return Use(self, draft.values, frozenset(draft.inverted) if draft.inverted else NONE)

    def check_relations(self, seen: dict[str, Opt]) -> None:
        for opt in self.opts:
            if opt.name not in seen:
                continue
            for other in self.opts:
                if other.name in opt.excludes and other is not opt and other.name in seen:
                    raise RuleError(f'{self.name}: option "--{opt.name}" cannot be used together with "--{other.name}".\n')
            for other in self.opts:
                if other.name in opt.needs and other.name not in seen:
                    raise RuleError(f'{self.name}: option "--{opt.name}" also requires "--{other.name}".\n')

    def final(self, draft: Draft, env: Env) -> None:
        """Nothing by default."""

    # ---- printing --------------------------------------------------------------------------------------------------------

    def save(self, use: Use) -> str:
        """Options as save and -S print them, a space in front of each."""
        return "".join(self.save_option(use, opt) for opt in self.opts if opt.key in use.values)

    def save_option(self, use: Use, opt: Opt) -> str:
        sign = " !" if opt.key in use.inverted else ""
        return f"{sign} --{opt.name} {opt.text(use.values[opt.key])}" if opt.takes else f"{sign} --{opt.name}"

    def show(self, use: Use, numeric: bool, names) -> str:
        """What -L prints for it, without the space in front; '' prints nothing."""
        return ""

    # ---- meaning ---------------------------------------------------------------------------------------------------------

    def lower(self, use: Use, rule):
        """list of Test for a match, Action for a target; Unevaluated where this build cannot (see lowering)."""
        from nfqfw.ext.lowering import Unevaluated
        return Unevaluated("not evaluated yet")

    def help(self) -> str:
        """The extension's part of `-m NAME -h`."""
        lines = [f"{self.name} {'match' if self.kind == MATCH else 'target'} options:"]
        for opt in self.opts:
            spelled = ", ".join("--" + name for name in (opt.name, *opt.aliases))
            head = f"{'[!]' if opt.invert else '   '} {spelled}" + (f" {opt.metavar or opt.type}" if opt.takes else "")
            lines.append(head)
            lines += [f"\t\t\t\t{line}" for line in opt.help.splitlines()]
        return "\n".join(lines + self.help_more()) + "\n"

    def help_more(self) -> list[str]:
        return []


MATCHES: dict[str, dict[int, Extension]] = {}       # name -> family -> extension; filled by the decorators
TARGETS: dict[str, dict[int, Extension]] = {}


def declare(kind: str, registry: dict, name: str, opts: Iterable[Opt], families, only):
    def register(cls):
        body = {key: value for key, value in vars(cls).items() if key not in ("__dict__", "__weakref__")}
        body.update(kind=kind, name=name, opts=tuple(opts), families=tuple(families), only=only)
        bases = tuple(base for base in cls.__bases__ if base is not object)
        extension = type(cls.__name__, (*bases, Extension), body)()
        for family in families:
            registry.setdefault(name, {})[family] = extension
        return cls
    return register


def match(name: str, *opts: Opt, families=(2, 10), only: Only = Only()):
    """Register a match; see the head of this file."""
    return declare(MATCH, MATCHES, name, opts, families, only)


def target(name: str, *opts: Opt, families=(2, 10), only: Only = Only()):
    """Register a target; see the head of this file."""
    return declare(TARGET, TARGETS, name, opts, families, only)
