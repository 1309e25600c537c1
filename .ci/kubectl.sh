#!/usr/bin/env bash
# Brings Debian's kubectl, which tests of the metrics APIs call, unless there is one.
set -euo pipefail

sudo=; [ "$(id -u)" = 0 ] || sudo=sudo

if ! command -v kubectl > /dev/null; then
  $sudo apt-get -q update >&2
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends kubernetes-client >&2
fi
command -v kubectl > /dev/null || { echo "kubectl.sh: kubernetes-client could not be installed" >&2; exit 1; }
