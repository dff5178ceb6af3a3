#!/bin/sh
# Make the virtual environment $1, or say exactly what is missing.
# PYTHON names an interpreter; otherwise the first that is new enough is taken.
set -eu
venv=$1

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

python=
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if new_enough "$candidate"; then python=$candidate && break; fi
done
if [ -z "$python" ]; then
    found=$("${PYTHON:-python3}" --version 2>/dev/null || echo nothing)
    echo "Forebay needs Python 3.11 or newer; ${PYTHON:-python3} is $found." >&2
    echo "Install one, then name it: PYTHON=python3.12 make setup" >&2
    exit 1
fi

# Debian ships venv apart from python3; without it `-m venv` fails half-way.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing python$version-venv ..."
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
            "python$version-venv" >/dev/null
    else
        echo "Python's venv module is missing. Run: sudo apt-get install python$version-venv" >&2
        exit 1
    fi
fi
"$python" -m venv "$venv"
