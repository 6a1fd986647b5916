#!/bin/sh
# Deliberate mistakes that neither the model nor the live checker can see, because what they are about is not there:
# the tests named here must fail with them. `make mutants` runs this.
set -eu
cd "$(dirname "$0")/.."
status=0

# fails MUTANT TEST...: at least one of the tests must not pass.
fails() {
    mutant="$1"
    shift
    if NEARHIT_MUTANT="$mutant" "${CARGO:-cargo}" test --quiet --locked --features mutants "$@" >/dev/null 2>&1; then
        printf '%s\n' "mutants-elsewhere: $mutant: nothing fails of: $*" >&2
        status=1
    else
        printf '%s\n' "mutants-elsewhere: $mutant: seen"
    fi
}

# Without a mistake all of them pass.
"${CARGO:-cargo}" test --quiet --locked --features mutants --test command_rules --test resp_live --test identity_judgement
fails xpending_cached --test command_rules
fails nil_kind --test resp_live
fails pairs_nested --test resp_live
fails reset_leaks_user --test identity_judgement
exit "$status"
