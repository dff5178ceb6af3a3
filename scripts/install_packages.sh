#!/bin/sh
# Install the Debian packages that some tests use, where that does no harm: as root, on Debian,
# with no systemd running (a container or CI).  On a person's own machine a package would start
# its service, so there we only name what is missing; the tests that need it say so and skip.
set -eu
missing=
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && [ ! -d /run/systemd/system ]; then
    echo "Installing for the tests:$missing"
    # shellcheck disable=SC2086 - a list of names
    if apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends $missing >/dev/null; then exit 0; fi
    echo "apt-get failed." >&2
fi
echo "Not installed:$missing. Tests that need them are skipped by name."
