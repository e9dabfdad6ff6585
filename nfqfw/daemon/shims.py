"""A folder of program names that are nfqfw: with PATH=DIR:$PATH, scripts that call iptables talk to us.

One small launcher, under the name that the real package uses too, and symbolic links to it.  The launcher starts Python
without `site` (-S) and without the caller's PYTHON* variables and directory (-I): it is faster, and nothing that stands
beside a script can be imported as root.
"""

import os
import sys

from nfqfw.errors import NfqfwError

LAUNCHER = "xtables-legacy-multi"
LINKS = (
    "iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore",
    "iptables-legacy", "iptables-legacy-save", "iptables-legacy-restore",
    "ip6tables-legacy", "ip6tables-legacy-save", "ip6tables-legacy-restore", "conntrack", "nfct",
)
SHEBANG_BYTES = 255             # BINPRM_BUF_SIZE 256 less the newline
MARK = "nfqfw shim"
TEXT = """\
#!{python} -IS
# {mark}: written by `nfqfw shims`; the name it is called by says which tool it is
import sys
sys.path.insert(0, {package_parent!r})
from nfqfw.applet_client import main
sys.exit(main(sys.argv[0].rpartition("/")[2], sys.argv[1:]))
"""


def write_shims(directory: str) -> list[str]:
    """Write the launcher and its links; returns their paths.  Ours are replaced, a foreign file of such a name is an error."""
    os.makedirs(directory, exist_ok=True)
    foreign = [name for name in (LAUNCHER, *LINKS) if not is_ours(os.path.join(directory, name))]
    if foreign:
        raise NfqfwError(f"{directory} already has {', '.join(foreign)}, not written by nfqfw",
                         "give a directory of its own, such as /usr/local/lib/nfqfw/shims", 2)
    launcher = os.path.join(directory, LAUNCHER)
    replace(launcher, lambda path: write_program(path, launcher_text()))
    for name in LINKS:
        replace(os.path.join(directory, name), lambda path: os.symlink(LAUNCHER, path))
    return [os.path.join(directory, name) for name in (LAUNCHER, *LINKS)]


def launcher_text() -> str:
    if len(sys.executable) + len("#! -IS") > SHEBANG_BYTES or " " in sys.executable:
        raise NfqfwError(f"the kernel cannot start {sys.executable} from the first line of a script",
                         "install nfqfw under a shorter path without spaces", 2)
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return TEXT.format(python=sys.executable, mark=MARK, package_parent=package_parent)


def is_ours(path: str) -> bool:
    """True if there is nothing, or something that we wrote."""
    if os.path.islink(path):
        return os.readlink(path) == LAUNCHER
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return MARK in file.read(400)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def write_program(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)


def replace(path: str, make) -> None:
    """Make a file beside `path` and rename it over it, so that a script that runs meanwhile never misses the name."""
    new = f"{path}.new{os.getpid()}"
    make(new)
    os.replace(new, path)
