#!/bin/sh
# Makes sure that what the programs in tests/clients are run with is here. Python modules and Node packages go below
# target/clients and nowhere else, in the versions of tests/clients/python/requirements.txt and
# tests/clients/node/package-lock.json; the rest are packages of the system.
#
#   deploy/need-clients.sh        Python and Node
#   deploy/need-clients.sh all    and C, Perl, PHP and Ruby, where they can be had
#
# target/clients/state/LANGUAGE says how it went: `ready …`, or `missing: WHY`.
#
# Exit status: 0 Python and Node are here; 69 they are not, and what is missing has been printed. Of the other languages
# it is printed only: their tests say that they did not run.
set -eu
. "$(dirname "$0")/install.sh"

cd "$(dirname "$0")/.."
clients=target/clients
state=$clients/state
mkdir -p "$state"

# need LANGUAGE PINS: runs get_LANGUAGE, unless it is known to be here in the versions of the file PINS.
need() {
    wanted="ready $(cksum <"$2")"
    [ "$(cat "$state/$1" 2>/dev/null)" = "$wanted" ] && return 0
    # Stays when the installation is interrupted.
    printf 'missing: its installation did not end well' >"$state/$1"
    if "get_$1"; then
        printf '%s' "$wanted" >"$state/$1"
    else
        say "the tests of $1 clients will not run"
        return 69
    fi
}

get_python() {
    python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || install_or_explain 'python3 with venv' \
        'apt-get install -q -y --no-install-recommends python3 python3-venv' \
        'dnf install -q -y python3 python3-pip' \
        'apk add --no-cache python3 py3-pip' \
        'pacman -S --noconfirm --needed python python-pip' \
        'brew install python' || return
    [ -x "$clients/python/bin/python" ] || python3 -m venv "$clients/python" || return
    "$clients/python/bin/python" -m pip install --quiet --disable-pip-version-check \
        -r tests/clients/python/requirements.txt >&2
}

get_node() {
    if ! have node || ! have npm; then
        install_or_explain 'node and npm' \
            'apt-get install -q -y --no-install-recommends nodejs npm' \
            'dnf install -q -y nodejs npm' \
            'apk add --no-cache nodejs npm' \
            'pacman -S --noconfirm --needed nodejs npm' \
            'brew install node' || return
    fi
    mkdir -p "$clients/node" || return
    cp tests/clients/node/package.json tests/clients/node/package-lock.json "$clients/node/" || return
    npm install --prefix "$clients/node" --no-fund --no-audit --ignore-scripts --loglevel=error >&2
}

has_c() {
    printf '#include <hiredis/hiredis.h>\nint main(void) { return HIREDIS_MAJOR > 9; }\n' >"$clients/probe.c" &&
        cc -o "$clients/probe" "$clients/probe.c" -lhiredis 2>/dev/null
}

get_c() {
    install_or_explain 'a C compiler and hiredis' \
        'apt-get install -q -y --no-install-recommends gcc libc6-dev libhiredis-dev' \
        'dnf install -q -y gcc hiredis-devel' \
        'apk add --no-cache build-base hiredis-dev' \
        'pacman -S --noconfirm --needed gcc hiredis' \
        'brew install hiredis'
}

has_perl() { perl -MRedis -e 1 2>/dev/null; }

get_perl() {
    install_or_explain "Perl's Redis" \
        'apt-get install -q -y --no-install-recommends perl libredis-perl' \
        'dnf install -q -y perl-Redis' \
        'apk add --no-cache perl-redis' \
        'false # no package of it is known' \
        'false # no package of it is known'
}

has_php() { php -r 'exit(extension_loaded("redis") ? 0 : 1);' 2>/dev/null; }

get_php() {
    install_or_explain 'PHP with its redis extension' \
        'apt-get install -q -y --no-install-recommends php-cli php-redis' \
        'dnf install -q -y php-cli php-pecl-redis5' \
        'apk add --no-cache php php-redis' \
        'pacman -S --noconfirm --needed php php-redis' \
        'false # no package of it is known'
}

has_ruby() { ruby -e 'require "redis"; require "sidekiq"' 2>/dev/null; }

get_ruby() {
    install_or_explain 'Ruby with redis and sidekiq' \
        'apt-get install -q -y --no-install-recommends ruby ruby-redis ruby-sidekiq' \
        'dnf install -q -y ruby && gem install --no-document redis:4.8.1 sidekiq:6.5.12' \
        'apk add --no-cache ruby && gem install --no-document redis:4.8.1 sidekiq:6.5.12' \
        'pacman -S --noconfirm --needed ruby && gem install --no-document redis:4.8.1 sidekiq:6.5.12' \
        'gem install --no-document redis:4.8.1 sidekiq:6.5.12'
}

# optional LANGUAGE: has_LANGUAGE says whether it is here, get_LANGUAGE installs it. It is no error when it cannot be had.
optional() {
    if "has_$1" || { "get_$1" && "has_$1"; }; then
        printf 'ready' >"$state/$1"
    else
        printf 'missing: its packages are not installed; deploy/need-clients.sh all says how' >"$state/$1"
        say "the tests of $1 clients will not run"
    fi
}

status=0
need python tests/clients/python/requirements.txt || status=69
need node tests/clients/node/package-lock.json || status=69
if [ "${1:-}" = all ]; then
    for language in c perl php ruby; do
        optional "$language"
    done
fi
exit "$status"
