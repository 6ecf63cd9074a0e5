#!/usr/bin/env bash
# Installs what some tests need and pip cannot bring, on Debian or Ubuntu: a browser, Prometheus
# and Alertmanager with their checkers, a speech synthesiser, and a Redis. Does nothing where all of it
# is there.
set -euo pipefail

declare -A package_of=(
    [chromium]=chromium
    [prometheus]=prometheus
    [promtool]=prometheus
    [amtool]=prometheus-alertmanager
    [espeak-ng]=espeak-ng
    [redis-server]=redis-server
)
missing=()
for program in "${!package_of[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package_of[$program]}")
done
((${#missing[@]})) || exit 0
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "error: ${missing[*]} missing; install these packages, or run this as root on Debian" >&2
    exit 1
fi

# Debian's packages start their services, which nobody wants here; 101 forbids it.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
install_missing() {
    apt-get update --quiet &&
        DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends \
            "${missing[@]}"
}
for attempt in 1 2 3; do
    install_missing && exit 0
    echo "test programs: attempt $attempt did not succeed" >&2
    sleep $((attempt * 10))
done
exit 1
