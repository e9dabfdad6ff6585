"""What can be wrong with rule text, and with anything else a user asks for.

Rule text raises `RuleError` (one mistake, with the place in the text) or `RuleErrors` (every mistake of a file).  All other
failures that a user can mend are `NfqfwError`: a sentence, and `fix`, the one line that says what to do about it.
Any other exception is a bug in nfqfw.
"""

from __future__ import annotations

from typing import NamedTuple

PARAMETER_PROBLEM = 2           # exit codes of the iptables programs
VERSION_PROBLEM = 3
RESOURCE_PROBLEM = 4
OTHER_PROBLEM = 1


class Span(NamedTuple):
    """A place in a text: line and column count from 1, length in characters, text is the whole line."""

    file: str
    line: int
    column: int = 1
    length: int = 0
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class NfqfwError(Exception):
    """Something the user can mend: what is wrong, and in `fix` what to do (one line, or empty)."""

    def __init__(self, message: str, fix: str = "", code: int = 1):
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.code = code                    # exit code of a command that ends by it


class RuleError(NfqfwError):
    """One mistake in rule text.

    `message` is what iptables says for it.  `index` is the argument it concerns (the grammar sets it, the reader of the
    text makes a span of it).  `errno_name` is set where the kernel would have refused: the applet then prints the text
    of that errno, and `message` says what the kernel would have put into its log.
    """

    def __init__(self, message: str, span: Span | None = None, code: int = PARAMETER_PROBLEM, index: int | None = None,
                 errno_name: str = "", bare: bool = False, offset: int = 0):
        super().__init__(message, "", code)
        self.span = span
        self.index = index
        self.errno_name = errno_name
        self.bare = bare                    # printed without the program's name
        self.offset = offset                # characters into the argument where the mistake is

    def __str__(self) -> str:
        message = self.message.strip().replace("\n", " ")
        if self.span is None:
            return message
        text = visible(self.span.text)
        if not text:
            return f"{self.span}: {message}"
        pad = " " * (self.span.column - 1)
        return f"{self.span}: {message}\n{text}\n{pad}{'^' * max(1, self.span.length)}"


class RuleErrors(NfqfwError):
    """Every mistake of one text, in its order."""

    def __init__(self, errors: list[RuleError]):
        self.errors = sorted(errors, key=lambda e: (e.span.file, e.span.line, e.span.column) if e.span else ("", 0, 0))
        super().__init__("\n".join(map(str, self.errors)), "", self.errors[0].code if self.errors else PARAMETER_PROBLEM)

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))

    def __iter__(self):
        return iter(self.errors)

    def __len__(self) -> int:
        return len(self.errors)


def visible(text: str) -> str:
    """The line with control characters replaced one for one, so that a caret below it stays in place; cut at 400."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "?" for c in text[:400])
