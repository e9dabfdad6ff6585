"""Exit codes of nfqfw's own verbs; README and --help print this table.  Applets keep the codes of the tools they stand for."""

OK = 0
NO = 1
USAGE = 2
RULES = 3
HOST = 4
BUG = 70
INTERRUPTED = 130

MEANING = {
    OK: "done; `run` and `up` that were told to stop",
    NO: "the answer is no: an expectation of demo not observed, doctor found what must be fixed, selftest a difference, check --strict warnings",
    USAGE: "wrong use: an unknown option, a file that is not there or cannot be read",
    RULES: "the ruleset has mistakes, or asks for what this build does not evaluate",
    HOST: "this host, or this user on it, cannot do it: no root, a queue that another process owns, a kernel without NFQUEUE",
    BUG: "a bug in nfqfw: the message names a file with the traceback",
    INTERRUPTED: "Ctrl-C, for verbs that do not run until Ctrl-C",
}


def table(indent: str = "  ") -> str:
    return "\n".join(f"{indent}{code:>3}  {text}" for code, text in MEANING.items())
