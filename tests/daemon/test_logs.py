"""What a background daemon writes where, and that neither place grows without a bound or stops it."""

import os

from nfqfw.daemon import logs


def test_log_lines_go_to_the_kernel_with_a_level_walks_to_our_file(tmp_path):
    kernel = tmp_path / "kmsg"
    kernel.touch()
    own = []
    on_lines = logs.background_lines(own.append, str(kernel))
    on_lines("log", ["web: IN=eth0 OUT= SRC=192.0.2.1"])
    on_lines("trace", ["packet 1", "  hook INPUT"])
    assert kernel.read_text() == "<4>web: IN=eth0 OUT= SRC=192.0.2.1\n"
    assert own == ["packet 1\n  hook INPUT"]


def test_without_a_kernel_log_lines_go_to_our_file(tmp_path):
    own = []
    logs.background_lines(own.append, str(tmp_path / "none"))("log", ["a line"])
    assert own == ["a line"]


def test_own_log_begins_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "FILE_BYTES", 500)
    log = logs.FileLog(str(tmp_path / "log"))
    for n in range(100):
        log(f"message {n}")
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1"]
    assert (tmp_path / "log").read_text().endswith(" message 99\n")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1200


def test_own_log_whose_directory_is_gone_is_silent(tmp_path):
    logs.FileLog(str(tmp_path / "gone" / "log"))("lost")
    assert os.listdir(tmp_path) == []
