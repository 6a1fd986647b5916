#!/bin/sh
# Installs the proxies that `make bench` measures beside nearhit, twemproxy and HAProxy, when it may.
#
# Exit status: always 0. What is not here, the benchmark leaves out and says so.
set -eu
. "$(dirname "$0")/install.sh"

# Debian and Ubuntu keep haproxy in /usr/sbin, which is not on everybody's PATH.
PATH=$PATH:/usr/sbin:/usr/local/sbin

# twemproxy's package and program are called nutcracker.
have nutcracker || install_or_explain twemproxy \
    'apt-get install -q -y --no-install-recommends nutcracker' \
    'dnf install -q -y twemproxy' \
    'apk add --no-cache twemproxy' \
    'false # pacman has none' \
    'brew install twemproxy' || say 'the benchmark goes without twemproxy'
have haproxy || install_or_explain haproxy \
    'apt-get install -q -y --no-install-recommends haproxy' \
    'dnf install -q -y haproxy' \
    'apk add --no-cache haproxy' \
    'pacman -S --noconfirm --needed haproxy' \
    'brew install haproxy' || say 'the benchmark goes without HAProxy'
exit 0
