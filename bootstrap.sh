#!/bin/sh
# Set up what nfqfw needs on Debian 12 or a relative, from nothing; run by make.  Idempotent: what is there is left alone.
#
#   bootstrap.sh run     system packages and .venv for building and for `nfqfw demo`
#   bootstrap.sh test    the same, and what the tests and benchmarks compare with (iptables, conntrack, iperf3, ...)
#
# PYTHON=/path/to/python3 chooses the interpreter (3.11 or later, with venv and headers).
set -eu
cd "$(dirname "$0")"
want=${1:-run}
[ "$want" = run ] || [ "$want" = test ] || { echo "usage: bootstrap.sh run|test" >&2; exit 2; }

# probe (a command, or a path that may hold a *) and the Debian package that brings it
RUN_PACKAGES='
gcc                                                 gcc
/usr/include/stdio.h                                libc6-dev
curl                                                curl
ping                                                iputils-ping
ip                                                  iproute2
/etc/ssl/certs/ca-certificates.crt                  ca-certificates
'
TEST_PACKAGES='
iptables-legacy                                     iptables
nft                                                 nftables
conntrack                                           conntrack
nfct                                                nfct
ipset                                               ipset
iperf3                                              iperf3
tcpdump                                             tcpdump
tracepath                                           iputils-tracepath
ps                                                  procps
/usr/include/libnetfilter_queue/libnetfilter_queue.h  libnetfilter-queue-dev
/usr/include/libnfnetlink/libnfnetlink.h            libnfnetlink-dev
'

say() { echo "bootstrap: $*" >&2; }
fail() { say "$1"; say "fix: $2"; exit 1; }

present() {
    case $1 in
        /*) for path in $1; do [ -e "$path" ] && return 0; done; return 1 ;;
        *) command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] ;;
    esac
}

missing_packages() {                # the packages of a table whose probe finds nothing
    while read -r probe package; do
        [ -z "$probe" ] || present "$probe" || echo "$package"
    done
}

install_packages() {
    [ $# -gt 0 ] || return 0
    command -v apt-get >/dev/null 2>&1 || fail "missing: $*, and this system has no apt-get" "install the equivalent packages with your package manager, then run make again"
    [ "$(id -u)" = 0 ] || fail "missing system packages: $*" "as root: apt-get install --no-install-recommends $*"
    say "installing $*"
    log=$(mktemp)
    apt-get update >"$log" 2>&1 </dev/null || say "apt-get update failed (a third party's repository?); going on with the lists that are there"
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1 </dev/null || {
        tail -n 15 "$log" >&2
        rm -f "$log"
        fail "apt-get could not install: $*" "look at apt's message above (network? sources?), or install them by hand and run make again"
    }
    rm -f "$log"
}

usable_python() {                   # 3.11 or later, able to make a virtual environment and to build extensions
    "$1" - 2>/dev/null <<'CHECK'
import ensurepip, os, sys, sysconfig, venv
sys.exit(not (sys.version_info >= (3, 11) and os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h"))))
CHECK
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3}; do
        if usable_python "$candidate"; then "$candidate" -c 'import sys; print(sys.executable)'; return 0; fi
    done
    return 1
}

# ---- system packages -------------------------------------------------------------------------------------------------
packages=$(echo "$RUN_PACKAGES" | missing_packages)
[ "$want" = run ] || packages="$packages $(echo "$TEST_PACKAGES" | missing_packages)"
# shellcheck disable=SC2086  (one word per package)
install_packages $packages

python=$(find_python) || {
    [ -z "${PYTHON:-}" ] || fail "$PYTHON is no Python >= 3.11 with venv and headers" "unset PYTHON, or name another"
    install_packages python3 python3-venv python3-dev
    python=$(find_python) || fail "no Python >= 3.11 with venv and headers" "Debian 12 or later has one: apt-get install python3-venv python3-dev"
}

# ---- .venv -----------------------------------------------------------------------------------------------------------
key=$({ echo "$python"; cat pyproject.toml bootstrap.sh; pwd; } | cksum | cut -d' ' -f1)
stamp=".venv/bootstrapped-$want-$key"
[ -e "$stamp" ] && .venv/bin/python -c 'import click, Cython' 2>/dev/null && exit 0

say "making .venv with $("$python" -V)"
.venv/bin/python -c 'import pip' 2>/dev/null || { rm -rf .venv; "$python" -m venv .venv; }
rm -f .venv/bootstrapped-*
pip_fix="look at pip's message above; a network or a package index that has these packages is needed"
.venv/bin/python -m pip install -qq --disable-pip-version-check 'setuptools>=68' wheel 'Cython>=3.1' ||
    fail "pip could not install the build tools" "$pip_fix"
say "installing what nfqfw depends on"
extras=""
[ "$want" = run ] || extras="[test]"
NFQFW_EXTENSIONS=0 .venv/bin/python -m pip install -qq --disable-pip-version-check --no-build-isolation \
    --config-settings editable_mode=compat -e ".$extras" || fail "pip could not install nfqfw and what it depends on" "$pip_fix"
touch "$stamp"
[ "$want" = run ] || touch ".venv/bootstrapped-run-$key"    # test holds all that run needs
