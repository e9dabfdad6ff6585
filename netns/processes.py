"""Processes of a lab: one thread that starts them inside namespaces, and the pid namespace they die with.

A thread of its own, because entering a mount namespace is for threads that share their working directory with nobody, and
because the parent-death signal of the pid namespace's first process follows the thread that started it.
"""

import os
import pickle
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from netns import _linux

INIT = Path(__file__).with_name("_init.py")
CLOSE_SECONDS = 10              # the first process ends within milliseconds; later is an error


class CallFailed(RuntimeError):
    """A function run by `Processes.call` raised, or its process died; the text has the traceback."""


@dataclass(frozen=True)
class Namespaces:
    """Open descriptors of one host; they keep its namespaces alive."""

    net: int
    mnt: int

    def close(self) -> None:
        os.close(self.net)
        os.close(self.mnt)


class Processes:
    """The pid namespace of a lab and the thread that starts processes in it."""

    def __init__(self):
        self._thread = ThreadPoolExecutor(1, "netns", initializer=self._prepare)
        self._started: list[subprocess.Popen] = []
        self._init = None
        try:
            self._init = self._thread.submit(self._start_init).result()
            self._mounts = os.open(f"/proc/{self._init.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            self._thread.shutdown()
            raise

    def _prepare(self) -> None:
        _linux.unshare(_linux.CLONE_FS)
        # opened now: after a mount namespace is entered, /proc is the lab's, and this thread has no number there
        self._own = os.open(f"/proc/self/task/{threading.get_native_id()}/ns", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @staticmethod
    def _start_init() -> subprocess.Popen:
        _linux.unshare(_linux.CLONE_NEWPID)             # for this thread's children from here on; the first is the init
        # a session of its own: Ctrl-C in the terminal is for the creator, which then closes the lab in order
        init = subprocess.Popen([sys.executable, "-I", "-S", str(INIT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                start_new_session=True, cwd="/")
        if init.stdout.read(5) != b"ready":
            raise OSError("the first process of the lab's pid namespace did not start")
        return init

    def new_namespaces(self) -> Namespaces:
        """A new network and mount namespace; the mounts have the lab's /proc and the new network's /sys."""
        return self._thread.submit(self._new_namespaces).result()

    def _new_namespaces(self) -> Namespaces:
        _linux.setns(self._mounts, _linux.CLONE_NEWNS)
        _linux.unshare(_linux.CLONE_NEWNET | _linux.CLONE_NEWNS)
        _linux.unmount("/sys")                          # lazily: what lies below goes with it, as `ip netns exec` does
        _linux.mount("sysfs", "/sys", "sysfs")
        return Namespaces(*(os.open(kind, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._own) for kind in ("net", "mnt")))

    def popen(self, namespaces: Namespaces, argv, **options) -> subprocess.Popen:
        """subprocess.Popen inside the namespaces; the same working directory unless `cwd` says another."""
        options.setdefault("cwd", os.getcwd())          # entering a mount namespace leaves the thread at /
        process = self._thread.submit(self._popen, namespaces, argv, options).result()
        self._started.append(process)
        return process

    @staticmethod
    def _popen(namespaces, argv, options) -> subprocess.Popen:
        _linux.setns(namespaces.net, _linux.CLONE_NEWNET)
        _linux.setns(namespaces.mnt, _linux.CLONE_NEWNS)
        return subprocess.Popen(argv, **options)

    def call(self, namespaces: Namespaces, function, *arguments):
        """function(*arguments) in a forked process inside the namespaces; its result (pickled) is returned.

        Raises CallFailed with the child's traceback.  The child has the fork's usual limit: only the forking thread lives on.
        """
        reader, writer = os.pipe()
        with open(reader, "rb") as answer:
            child = self._thread.submit(self._fork, namespaces, writer, function, arguments).result()
            os.close(writer)
            data = answer.read()
        os.waitpid(child, 0)
        if not data:
            raise CallFailed(f"the process of {function!r} died without an answer")
        done, value = pickle.loads(data)
        if not done:
            raise CallFailed(value)
        return value

    @staticmethod
    def _fork(namespaces, writer, function, arguments) -> int:
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            _linux.setns(namespaces.net, _linux.CLONE_NEWNET)
            _linux.setns(namespaces.mnt, _linux.CLONE_NEWNS)
            try:
                answer = (True, function(*arguments))
            except BaseException:
                answer = (False, traceback.format_exc())
            with open(writer, "wb") as out:
                pickle.dump(answer, out)
            code = 0
        finally:
            os._exit(code)                              # never run the parent's exit handlers, buffers and tests

    def close(self) -> None:
        """End every process of the lab and wait for their end.  Safe to call twice."""
        if self._init is None:
            return
        self._init.stdin.close()
        for process in [*self._started, self._init]:    # killed by the end of the init, which waits until they are reaped
            process.wait(CLOSE_SECONDS)
        self._init.stdout.close()
        self._init = None
        os.close(self._mounts)
        self._thread.shutdown()
        os.close(self._own)
