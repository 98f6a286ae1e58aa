#!/usr/bin/env bash
# Applies deploy/gke, or another folder, to a GKE cluster and waits until it serves; undoes a rollout that does not.
#
#   PROJECT=… LOCATION=europe-west1 CLUSTER=rookery scripts/deploy/gke.sh IMAGE@sha256:… [deploy/gke/iris]
#
# The autoscaler's number of pods is kept: applying the manifest's own would set it back.
# The cluster's certificate and address come from gcloud, the token too, so that no plugin for kubectl is needed.
set -euo pipefail
image=${1:?name an image by digest}
folder=${2:-deploy/gke}
case $image in *@sha256:*) ;; *) echo "error: $image is not pinned by digest" >&2; exit 2 ;; esac
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -R deploy/gke "$scratch/gke"
inside=$scratch/${folder#deploy/}

describe() { gcloud container clusters describe "$CLUSTER" --project="$PROJECT" --location="$LOCATION" --format="value($1)"; }
describe masterAuth.clusterCaCertificate | base64 --decode > "$scratch/ca.crt"
server=https://$(describe endpoint)
(umask 077; gcloud auth print-access-token > "$scratch/token")
(umask 077; cat > "$scratch/kubeconfig" <<EOF
apiVersion: v1
kind: Config
current-context: gke
contexts: [{name: gke, context: {cluster: gke, user: gke}}]
clusters: [{name: gke, cluster: {server: "$server", certificate-authority: "$scratch/ca.crt"}}]
users: [{name: gke, user: {tokenFile: "$scratch/token"}}]
EOF
)
export KUBECONFIG=$scratch/kubeconfig

namespace=$(sed -n 's/^namespace: //p' "$inside/kustomization.yaml")
namespace=${namespace:-rookery}
replicas=$(kubectl --namespace="$namespace" get deployment rookery --ignore-not-found --output='jsonpath={.spec.replicas}')
cat > "$scratch/gke/kustomization.yaml" <<EOF
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [$( [ "$folder" = deploy/gke ] && echo base || echo "${folder#deploy/gke/}" )]
images: [{name: rookery, newName: "${image%@*}", digest: "${image#*@}"}, {name: rookery-iris, newName: "${image%@*}", digest: "${image#*@}"}]
replicas: [{name: rookery, count: ${replicas:-2}}]
EOF
kubectl apply --kustomize "$scratch/gke"
if ! kubectl --namespace="$namespace" rollout status deployment/rookery --timeout=300s; then
  if [ -n "$replicas" ]; then
    kubectl --namespace="$namespace" rollout undo deployment/rookery
    kubectl --namespace="$namespace" rollout status deployment/rookery --timeout=300s
  fi
  echo "error: the new pods did not get ready; see kubectl --namespace=$namespace logs deployment/rookery" >&2
  exit 1
fi
