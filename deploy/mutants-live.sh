#!/bin/sh
# Which deliberate mistakes the live checker finds: `nearhit selftest` against a build that makes each of them in turn, for
# so many seconds at most. `make mutants-live` runs this; the table goes into docs/mutants.md.
set -eu
cd "$(dirname "$0")/.."
seconds="${1:-12}"
page=docs/mutants.md
rows="$(mktemp)"
trap 'rm -f "$rows"' EXIT

"${CARGO:-cargo}" build --locked --features mutants --bin nearhit
nearhit="${CARGO_TARGET_DIR:-target}/debug/nearhit"
# A name that there is not makes it list those there are.
names="$(NEARHIT_MUTANT='?' "$nearhit" selftest --help 2>&1 | sed -n 's/.*there are //p' | tr -d ',')"

for name in $names; do
    case "$name" in redirect_*) mode=redirect ;; *) mode=tracking ;; esac
    said="$(NEARHIT_MUTANT="$name" "$nearhit" selftest --seconds "$seconds" --violations 1 --seed 3 --mode "$mode" 2>&1)" || true
    took="$(printf '%s\n' "$said" | sed -n 's/^nearhit selftest: seed [0-9]*, \([0-9.]*\) s.*/\1/p')"
    what="$(printf '%s\n' "$said" | sed -n 's/^VIOLATION of \([^:]*\).*/\1/p' | head -n 1)"
    if [ -n "$what" ]; then
        row="| \`$name\` | $what | $took s |"
    else
        row="| \`$name\` | not seen | in $took s |"
    fi
    printf '%s\n' "$row" | tee -a "$rows"
done

begin='<!-- made by `make mutants-live` -->'
end='<!-- end of what was made live -->'
awk -v rows="$rows" -v begin="$begin" -v end="$end" '
    $0 == begin {
        print
        print "| mutant | what the live checker saw first | after |"
        print "| --- | --- | --- |"
        while ((getline line < rows) > 0) print line
        skipping = 1
    }
    $0 == end { skipping = 0 }
    !skipping { print }
' "$page" > "$page.new"
mv "$page.new" "$page"
