#!/bin/sh
# The client matrix: every client and application of tests/clients directly against redis-server and through nearhit,
# and a table of how it went. `make test-clients` runs this; the arguments go to `cargo test`.
#
# Exit status: 0 all that is installed passed; 69 Python or Node could not be installed; else a test failed.
set -eu
. "$(dirname "$0")/install.sh"

cd "$(dirname "$0")/.."
installed=0
deploy/need-clients.sh all || installed=$?
rm -rf target/clients/results

status=0
"${CARGO:-cargo}" test --locked --no-fail-fast --test 'clients*' "$@" -- --include-ignored || status=$?

printf '\n%-18s %-14s %-8s %s\n' client version protocol result
for result in target/clients/results/*; do
    [ -f "$result" ] && cat "$result"
done | sort -f | while IFS="$(printf '\t')" read -r client version variant outcome; do
    printf '%-18s %-14s %-8s %s\n' "$client" "$version" "$variant" "$outcome"
done
if grep -q FAILED target/clients/results/* 2>/dev/null; then status=1; fi
[ "$status" = 0 ] || exit "$status"
exit "$installed"
