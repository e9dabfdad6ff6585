"""Names and flags of the kernel's sets (ipset), for set and SET."""

from __future__ import annotations

from nfqfw.errors import RuleError

DIMENSIONS = 6                      # the kernel's bound
NAME_BYTES = 31


def read_name_and_flags(draft, opt, text: str, env) -> tuple[str, tuple[str, ...]]:
    """`name src,dst,...`; the second word is taken from the command line.  A name that nobody knows is refused where names can
    be asked for: on a command line, not while a file is checked."""
    flags = draft.more()
    if flags is None or flags.startswith(("-", "!")):
        raise RuleError(f"--{opt.name} requires two args.")
    if len(text.encode(errors="surrogateescape")) > NAME_BYTES:
        raise RuleError(f"setname `{text}' too long, max {NAME_BYTES} characters.")
    if not env.resolver.has_set(text):
        raise RuleError(f"Set {text} doesn't exist.\n")
    words = tuple(flags.split(","))
    if len(words) > DIMENSIONS:
        raise RuleError(f"Can't be more src/dst options than {DIMENSIONS}.")
    for word in words:
        if word not in ("src", "dst"):
            raise RuleError("You must specify (the comma separated list of) 'src' or 'dst'.")
    return text, words


def set_text(value: tuple[str, tuple[str, ...]]) -> str:
    return f"{value[0]} {','.join(value[1])}"
