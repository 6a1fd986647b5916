#!/bin/sh
# Makes sure that the client libraries which tests/clients_libraries.rs talks through are here: Python's redis, Node's
# ioredis and redis. They go below target/clients and nowhere else:
#
#   target/clients/python/bin/python     has the module redis
#   target/clients/node/node_modules     has ioredis and redis (NODE_PATH for node)
#
# Exit status: 0 they are here; 69 they are not, and what is missing has been printed.
set -eu
. "$(dirname "$0")/install.sh"

# Named versions: a test that fails tomorrow should fail because of us.
redis_py=8.1.0
ioredis=6.0.0
node_redis=6.3.1

cd "$(dirname "$0")/.."
clients=target/clients
mkdir -p "$clients"

can_make_venv() { python3 -c 'import venv, ensurepip' >/dev/null 2>&1; }

if ! can_make_venv; then
    install_or_explain 'python3 with venv' \
        'apt-get install -q -y --no-install-recommends python3 python3-venv' \
        'dnf install -q -y python3 python3-pip' \
        'apk add --no-cache python3 py3-pip' \
        'pacman -S --noconfirm --needed python python-pip' \
        'brew install python'
fi
if ! have node || ! have npm; then
    install_or_explain 'node and npm' \
        'apt-get install -q -y --no-install-recommends nodejs npm' \
        'dnf install -q -y nodejs npm' \
        'apk add --no-cache nodejs npm' \
        'pacman -S --noconfirm --needed nodejs npm' \
        'brew install node'
fi

wanted="$redis_py $ioredis $node_redis"
[ "$(cat "$clients/versions" 2>/dev/null)" = "$wanted" ] && exit 0

[ -x "$clients/python/bin/python" ] || python3 -m venv "$clients/python"
"$clients/python/bin/python" -m pip install --quiet --disable-pip-version-check "redis==$redis_py" >&2
mkdir -p "$clients/node"
npm install --prefix "$clients/node" --no-fund --no-audit --no-save --loglevel=error \
    "ioredis@$ioredis" "redis@$node_redis" >&2
# Written last: an interrupted installation is done again.
printf '%s' "$wanted" >"$clients/versions"
