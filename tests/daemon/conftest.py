"""A run directory of its own for every test, so that no test meets a daemon that it did not start."""

import shutil
import tempfile

import pytest


@pytest.fixture(autouse=True)
def run_directory(monkeypatch):
    """Short, because the address of a Unix socket has room for 107 bytes; not below pytest's directories, which are private."""
    path = tempfile.mkdtemp(prefix="nfqfw-", dir="/tmp")
    monkeypatch.setenv("NFQFW_RUN_DIR", path)
    for name in ("NFQFW_STATE", "NFQFW_AUTOSTART"):
        monkeypatch.delenv(name, raising=False)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def namespace(run_directory):
    from tests.daemon.namespace import Namespace
    made = Namespace(run_directory)
    yield made
    made.close()
