#!/bin/sh
# Makes sure that the tools `make test` calls besides the compiler are here: rustfmt and clippy.
# rustup's minimal profile comes without them.
set -eu

for tool in fmt clippy; do
    cargo "$tool" --version >/dev/null 2>&1 && continue
    component=$([ "$tool" = fmt ] && echo rustfmt || echo "$tool")
    if ! rustup component add "$component" >&2; then
        printf '%s\n' "need-rust: cargo $tool is missing. Type: rustup component add $component" >&2
        exit 69
    fi
done
