# For the need-*.sh scripts, which source it: install system packages, or print what to type.

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# install_or_explain WHAT APT DNF APK PACMAN BREW: each after WHAT is a command line for that package manager.
# Ends the script with status 69 when it may not install, and has printed the exact command then.
install_or_explain() {
    what=$1 needs_root=yes
    if have apt-get; then
        # The package lists of a fresh machine may be empty or old.
        install="apt-get update -q && DEBIAN_FRONTEND=noninteractive $2"
    elif have dnf; then
        install=$3
    elif have apk; then
        install=$4
    elif have pacman; then
        install=$5
    elif have brew; then
        install=$6 needs_root=no
    else
        say "$what is missing, and there is no package manager here that I know. Install it by hand."
        return 69
    fi

    if [ "$needs_root" = no ] || [ "$(id -u)" = 0 ]; then
        as=''
    elif have sudo && sudo -n true 2>/dev/null; then
        as='sudo -n '
    else
        say "$what is missing, and installing it needs root. Type:"
        printf '\n    sudo sh -c "%s"\n\n' "$install" >&2
        return 69
    fi

    say "installing $what: $as$install"
    # Nothing may ask a question: CI has no terminal. Output goes where messages go.
    if ! ${as}sh -c "$install" </dev/null >&2; then
        say "that did not work. Install $what by hand."
        return 69
    fi
}
