#!/bin/sh
# Makes sure that redis-server and redis-cli are here; installs them when it may.
#
#   deploy/need-redis.sh                      finds or installs them
#   REDIS_SERVER=PATH deploy/need-redis.sh    takes that server, installs nothing
#
# Exit status: 0 they are here; 69 they are not, and what to type has been printed.
set -eu
. "$(dirname "$0")/install.sh"

if [ -n "${REDIS_SERVER:-}" ]; then
    have "$REDIS_SERVER" && exit 0
    say "REDIS_SERVER is $REDIS_SERVER, and that is no program"
    exit 69
fi
have redis-server && have redis-cli && exit 0

# Fedora and RHEL moved to Valkey, with a package that gives it the old names; Arch's Valkey has them by itself.
install_or_explain redis-server \
    'apt-get install -q -y --no-install-recommends redis-server' \
    'dnf install -q -y redis || dnf install -q -y valkey valkey-compat-redis' \
    'apk add --no-cache redis' \
    'pacman -S --noconfirm --needed valkey' \
    'brew install redis' || {
    say 'Or say where one is: REDIS_SERVER=/path/to/redis-server'
    exit 69
}
if ! have redis-server || ! have redis-cli; then
    say 'installed, and still no redis-server or redis-cli on PATH'
    exit 69
fi
if [ -d /run/systemd/system ]; then
    say 'the package may have started a service of its own on port 6379; nearhit does not use it'
fi
say "$(redis-server --version)"
