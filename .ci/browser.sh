#!/usr/bin/env bash
# Brings the browser that tests of the page drive (Debian's Chromium and its driver) and prints the folder they are in.
#
#   export TIDEGAUGE_BROWSER=$(.ci/browser.sh)
set -euo pipefail

sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
have() { [ -x /usr/bin/chromium ] && [ -x /usr/bin/chromedriver ]; }

if ! have; then
  $sudo apt-get -q update >&2
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends chromium chromium-driver >&2
fi
have || { echo "browser.sh: chromium and chromium-driver could not be installed" >&2; exit 1; }
echo /usr/bin
