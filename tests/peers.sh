#!/bin/sh
# Install the tests' real peers where apt and root are there. Without them the tests that need one are skipped, with
# the reason; in CI a missing peer is an error.
set -eu
missing=""
command -v /usr/bin/storescu >/dev/null || missing="$missing dcmtk"
command -v Orthanc >/dev/null || [ -x /usr/sbin/Orthanc ] || missing="$missing orthanc"
[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing="$missing orthanc-dicomweb"
command -v chromium >/dev/null || missing="$missing chromium fonts-dejavu-core"
command -v promtool >/dev/null || missing="$missing prometheus"
command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] || missing="$missing haproxy"
[ -n "$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null)" ] || missing="$missing postgresql"
command -v ip >/dev/null || missing="$missing iproute2"
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "not installed (needs apt and root):$missing" >&2
    [ "${CI:-}" != "true" ] || exit 1
    exit 0
fi
# Packages that bring a server must not start it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing > /dev/null
