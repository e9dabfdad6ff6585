"""A network namespace that dies with the test, and the programs of nfqfw run in it."""

import os
import subprocess
import sys
import time

from nfqfw.daemon.shims import write_shims

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Namespace:
    """Held by one sleeping process, which the kernel kills when we die.  lo is up."""

    def __init__(self, directory):
        self.directory = directory
        self.holder = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "-n", "sleep", "600"])
        mine = os.stat("/proc/self/ns/net").st_ino
        while os.stat(f"/proc/{self.holder.pid}/ns/net").st_ino == mine:
            time.sleep(0.005)
        self.prefix = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        self.environment = {**os.environ, "PYTHONPATH": ROOT, "XTABLES_LOCKFILE": f"{directory}/xtables.lock"}
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *argv, code=0, text=None, **environment):
        """Output of a program in the namespace; fails unless it exits with `code` (None: whatever it is)."""
        done = subprocess.run([*self.prefix, *argv], input=text, capture_output=True, text=True, timeout=120, check=False,
                              env={**self.environment, **environment}, stdin=None if text is not None else subprocess.DEVNULL)
        assert code is None or done.returncode == code, (argv, done.returncode, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def nfqfw(self, *argv, **options):
        return self.run(sys.executable, "-m", "nfqfw", *argv, **options)

    def python(self, program, *argv):
        """A Python program in the namespace that goes on while the test does."""
        return subprocess.Popen([*self.prefix, sys.executable, "-c", program, *argv], env=self.environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def shims(self):
        """PATH with our programs first."""
        folder = f"{self.directory}/shims"
        write_shims(folder)
        return f"{folder}:{os.environ['PATH']}"

    def daemon_pid(self):
        """Process of the daemon, None if there is none."""
        import json
        status = json.loads(self.nfqfw("status", "--json", code=None))
        return status["daemon"]["pid"] if status["running"] else None

    def leave(self):
        """Kill the process that holds it."""
        self.holder.kill()
        self.holder.wait()

    def close(self):
        if self.holder.poll() is None:
            try:
                self.nfqfw("down", code=None)
            finally:
                self.leave()


def wait_until(condition, seconds):
    """True as soon as `condition()` is, False after that many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_alive(pid):
    """True while the process runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
