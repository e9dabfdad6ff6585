"""An extension is imported when a rule uses its name, and at no other time: the start of a command does not grow with their number."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXT = Path(__file__).parents[2] / "nfqfw" / "ext"
SCRIPT = """
import sys
from nfqfw.rules.applet import run
from nfqfw.rules.store import MemoryStore
store = MemoryStore()
for command in sys.argv[1:]:
    result = run(command.split(), store)
    assert result.code == 0, result.stderr
print(*sorted(name.removeprefix("nfqfw.ext.") for name in sys.modules if name.startswith(("nfqfw.ext.m_", "nfqfw.ext.t_"))))
"""


@pytest.mark.parametrize("commands, imported", [
    ([], ""),
    (["iptables -S", "iptables -L -n", "iptables-save", "iptables -N web", "iptables -P INPUT DROP"], ""),
    (["iptables -A INPUT -s 10.0.0.0/8 -i eth0 -j ACCEPT", "iptables -D INPUT 1"], ""),
    (["iptables -A INPUT -p tcp --dport 22 -j ACCEPT", "iptables -S"], "m_tcp"),
    (["iptables -A INPUT -m length --length 40 -j MARK --set-mark 1", "iptables -L", "iptables-save"], "m_length t_MARK"),
    (["ip6tables -A INPUT -m string --algo bm --string x -j LOG"], "m_string t_LOG"),
    (["iptables -t nat -A POSTROUTING -o eth1 -j MASQUERADE"], "t_MASQUERADE"),
    (["iptables -m udp -h"], "m_udp"),
])
def test_a_command_imports_the_extensions_that_it_uses(commands, imported):
    done = subprocess.run([sys.executable, "-c", SCRIPT, *commands], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == imported.split()


def test_no_extension_imports_another():
    """What several need lies in a module of its own beside them."""
    wrong = {path.name: found for path in sorted(EXT.glob("[mt]_*.py")) if (found := re.findall(r"nfqfw\.ext(?:\.| import )([mt]_\w+)", path.read_text()))}
    assert wrong == {}
