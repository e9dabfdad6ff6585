"""One host of a lab: run programs and Python in its namespaces, read and write its sysctls and interfaces."""

import contextlib
import os
import socket
import subprocess
import threading
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from netns import _linux, offload
from netns.processes import Namespaces, Processes


@dataclass(frozen=True)
class Interface:
    """One end of a link."""

    name: str
    mac: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    peer: str                   # name of the host at the other end


class Host:
    """A network namespace of the lab.  Processes started here end with the lab at the latest."""

    def __init__(self, name: str, namespaces: Namespaces, processes: Processes):
        self.name = name
        self.interfaces: dict[str, Interface] = {}
        self._namespaces = namespaces
        self._processes = processes

    def __repr__(self) -> str:
        return f"<Host {self.name}>"

    @property
    def net_fd(self) -> int:
        """Descriptor of the network namespace, for setns(2) and netlink; closed with the lab."""
        return self._namespaces.net

    def address(self, family: int = 4, interface: str = "eth0") -> str:
        """The host's address of family 4 or 6 on an interface, without prefix length.  KeyError, or StopIteration if none."""
        return str(next(a.ip for a in self.interfaces[interface].addresses if a.version == family))

    # ---- programs -----------------------------------------------------------------------------------------------------

    def popen(self, argv, **options) -> subprocess.Popen:
        """subprocess.Popen inside the host; same options.  Its own pid is the creator's view of it."""
        return self._processes.popen(self._namespaces, argv, **options)

    def run(self, argv, *, timeout: float = 30, check: bool = False, input: str | None = None, **options):
        """Run to the end with text stdout and stderr captured: a CompletedProcess.  On time-out the process is killed."""
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        options = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        with self.popen(argv, **options) as process:
            try:
                out, errors = process.communicate(input, timeout=timeout)
            except BaseException:
                process.kill()
                raise
        if check and process.returncode:
            raise subprocess.CalledProcessError(process.returncode, argv, out, errors)
        return subprocess.CompletedProcess(argv, process.returncode, out, errors)

    # ---- Python -------------------------------------------------------------------------------------------------------

    def call(self, function, *arguments):
        """function(*arguments) in a forked process of the host; the result must pickle.  Raises processes.CallFailed."""
        return self._processes.call(self._namespaces, function, *arguments)

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is in the host's network namespace inside the block (its mounts stay the creator's).

        Sockets made there belong to the host for ever, also when used outside; threads started there start in it.
        """
        back = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _linux.setns(self.net_fd, _linux.CLONE_NEWNET)
            try:
                yield self
            finally:
                _linux.setns(back, _linux.CLONE_NEWNET)
        finally:
            os.close(back)

    def socket(self, *arguments) -> socket.socket:
        """socket.socket(*arguments) of the host, usable from any thread."""
        with self.entered():
            return socket.socket(*arguments)

    # ---- settings -----------------------------------------------------------------------------------------------------

    def set_sysctl(self, name: str, value) -> None:
        """net.* only, with dots: those belong to the namespace."""
        with self.entered():
            _sysctl(name).write_text(str(value))

    def get_sysctl(self, name: str) -> str:
        with self.entered():
            return _sysctl(name).read_text().strip()

    def set_offloads(self, interface: str = "eth0", **features: bool) -> None:
        """Switch tx, sg, tso, gso, gro on or off, as `ethtool -K`; tx=False makes full checksums and implies tso off."""
        with self.entered():
            offload.switch(interface, features)

    def ip(self, *commands: str) -> None:
        """Run `ip` commands as one batch, e.g. "link set eth0 mtu 1400".  Raises RuntimeError with ip's message."""
        ip_batch(self, commands)


def ip_batch(host: Host, commands, pass_fds=()) -> None:
    done = host.run(["ip", "-batch", "-"], input="\n".join(commands) + "\n", pass_fds=pass_fds)
    if done.returncode:
        raise RuntimeError(f"ip on {host.name}: {done.stderr.strip()}")


def _sysctl(name: str) -> Path:
    if not name.startswith("net."):
        raise ValueError(f"{name} belongs to the whole machine, not to a lab")
    return Path("/proc/sys", *name.split("."))
