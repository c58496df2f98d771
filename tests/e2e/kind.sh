#!/usr/bin/env bash
# A cluster on this machine: kind, the Training Operator, the image, and a namespace with a store and cells. `make kind-up`, `make kind-down`;
# both may be run again at any time.
#
#   CLUSTER, NODE_IMAGE     name of the cluster, and the Kubernetes that it runs
#   OPERATOR                version of the Training Operator
#   NAMESPACE               for trying out by hand; tests/e2e makes its own
#   IMAGE                   of dino4cells, as docker knows it
set -euo pipefail
cd "$(dirname "$0")/../.."

CLUSTER=${CLUSTER:-dino4cells}
NODE_IMAGE=${NODE_IMAGE:-kindest/node:v1.34.0}
OPERATOR=${OPERATOR:-v1.9.4}
NAMESPACE=${NAMESPACE:-dino4cells}
IMAGE=${IMAGE:-$(sed -n 's/^IMAGE = "\(.*\)"/\1/p' components/image.py)}
# Apart from other clusters that this machine may know.
export KUBECONFIG="$PWD/.kind/kubeconfig"

say() { echo "kind: $*" >&2; }

check() {
  local missing=()
  for program in docker kind kubectl; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    say "not installed here: ${missing[*]}; a cluster on this machine needs docker, kind and kubectl (docs/kind.md)."
    return 1
  fi
  docker info >/dev/null 2>&1 || { say "docker is installed, but its daemon does not answer (docker info says why)."; return 1; }
}

exists() { kind get clusters 2>/dev/null | grep -qx "$CLUSTER"; }

up() {
  docker image inspect "$IMAGE" >/dev/null 2>&1 || { say "docker has no image $IMAGE; make image builds it."; return 1; }
  mkdir -p .kind
  exists || kind create cluster --name "$CLUSTER" --image "$NODE_IMAGE" --wait 180s
  kind export kubeconfig --name "$CLUSTER" --kubeconfig "$KUBECONFIG"

  kubectl apply --server-side --force-conflicts -k "github.com/kubeflow/training-operator.git/manifests/overlays/standalone?ref=$OPERATOR"
  kubectl rollout status deployment/training-operator --namespace kubeflow --timeout=300s

  say "loading $IMAGE into the cluster; gigabytes take a while"
  kind load docker-image "$IMAGE" --name "$CLUSTER"

  kubectl create namespace "$NAMESPACE" --dry-run=client --output yaml | kubectl apply -f -
  kubectl apply --namespace "$NAMESPACE" -f tests/e2e/store.yaml
  kubectl rollout status deployment/dino4cells-store --namespace "$NAMESPACE" --timeout=300s
  # The store forgets what it holds when it is started anew, so the cells are drawn each time.
  kubectl delete job dino4cells-cells --namespace "$NAMESPACE" --ignore-not-found
  sed "s|image: dino4cells-python:.*|image: $IMAGE|" tests/e2e/cells.yaml | kubectl apply --namespace "$NAMESPACE" -f -
  kubectl wait job/dino4cells-cells --for=condition=Complete --namespace "$NAMESPACE" --timeout=300s
  say "ready: export KUBECONFIG=$KUBECONFIG, or make e2e"
}

down() {
  ! exists || kind delete cluster --name "$CLUSTER"
  rm -rf .kind
}

case "${1:-}" in
  check) check ;;
  up) check && up ;;
  down) check && down ;;
  *) say "say up, down or check."; exit 2 ;;
esac
