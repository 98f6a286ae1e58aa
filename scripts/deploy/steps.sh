#!/bin/sh
# The steps from source to a rolled out revision; cloudbuild.yaml and .github/workflows/deploy.yml call them in this order.
#
#   steps.sh check         everything that must hold, see `make check`
#   steps.sh bundle        train, or verify the published bundle that was given
#   steps.sh sign          sign the bundle
#   steps.sh publish       upload the bundle and note what to pin
#   steps.sh image         build the image with its layer cache, SBOM and provenance, and push it
#   steps.sh sign-image    sign the image's digest with the key in Cloud KMS
#   steps.sh scan          have Artifact Analysis look at the image
#   steps.sh judge-scan    stop at a critical finding that has a fix and no dated exception
#   steps.sh deploy        a revision at 0 % with the tag candidate
#   steps.sh rollout       move traffic to it step by step
#
# Environment:
#   PROJECT, REGION, SERVICE    where to
#   SPEC                        what to train (model/specs/penguins.toml)
#   BUNDLE                      gs://bucket/prefix/<digest>/ of a published bundle, instead of training
#   COMMIT                      commit of the source
#   PUBLIC_KEY                  the public key itself, PEM, that a given bundle must be signed with; only for bundle
#   SIGNING_KEY                 the private key itself, PEM; only for sign
#   FOLDER                      where steps leave things for the next ones (build)
#
# What one step finds out the next ones read from $FOLDER/release.env.
set -eu
cd "$(dirname "$0")/../.."

SPEC=${SPEC:-model/specs/penguins.toml}
BUNDLE=${BUNDLE:-}
COSIGN=ghcr.io/sigstore/cosign/cosign:v2.4.3@sha256:c77247c92f4dfea851c70555738226498393e34e2f9ca83cb959e51c230e4ad7
PYTHON=${PYTHON:-.venv/bin/python}
FOLDER=${FOLDER:-build}
NOTES=$FOLDER/release.env
NAME=$(sed -n 's/^name = "\([a-z0-9_-]*\)".*/\1/p' "$SPEC" | head -n 1)
mkdir -p "$FOLDER"
touch "$NOTES"
. "$(realpath "$NOTES")"

check() {
  # a submitted source has no history, and tests ask git what belongs to the repository
  if [ ! -e .git ]; then git init --quiet && git add --all; fi
  make check
}

bundle() {
  make install
  if [ -z "$BUNDLE" ]; then make train SPEC="$SPEC"; return; fi
  if [ -n "${PUBLIC_KEY:-}" ]; then
    key=$(mktemp)
    trap 'rm -f "$key"' EXIT
    printf '%s\n' "$PUBLIC_KEY" > "$key"
    $PYTHON -m model.publish verify "$BUNDLE" --key "$key"
  else
    echo "no PUBLIC_KEY: the bundle's signature is not verified" >&2
    $PYTHON -m model.publish verify "$BUNDLE"
  fi
  digest=$(basename "$BUNDLE")
  printf 'MODEL_URI=%s\nMODEL_DIGEST=sha256:%s\nROOKERY_MODEL_CONTRACT=\n' "$BUNDLE" "$digest" >> "$NOTES"
}

sign() {
  if [ -n "$BUNDLE" ]; then echo "$BUNDLE is published: what is signed is signed"; return; fi
  umask 077
  key=$(mktemp)
  trap 'rm -f "$key"' EXIT
  printf '%s\n' "$SIGNING_KEY" > "$key"
  $PYTHON -m model.sign bundle "bundles/$NAME" --key "$key"
}

publish() {
  if [ -n "$BUNDLE" ]; then return; fi
  $PYTHON -m model.publish upload "bundles/$NAME" "gs://$PROJECT-rookery-models/$NAME" | tee -a "$NOTES"
}

image() {
  name=$REGION-docker.pkg.dev/$PROJECT/rookery/rookery
  docker buildx create --name rookery --driver docker-container >/dev/null 2>&1 || true
  ENGINE=docker BUILDX_BUILDER=rookery IMAGE=$name:$COMMIT scripts/image/image.sh build --push \
    --cache-from "type=registry,ref=$name:cache" --cache-to "type=registry,ref=$name:cache,mode=max" \
    --attest type=sbom --attest type=provenance,mode=max --metadata-file "$FOLDER/image.json"
  digest=$(sed -n 's/.*"containerimage.digest": *"\(sha256:[0-9a-f]*\)".*/\1/p' "$FOLDER/image.json" | head -n 1)
  echo "IMAGE=$name@$digest" | tee -a "$NOTES"
}

sign_image() {
  # the tool alone, out of an image pinned by digest
  container=$(docker create "$COSIGN")
  docker cp "$container:/ko-app/cosign" "$FOLDER/cosign"
  docker rm "$container" >/dev/null
  "$FOLDER/cosign" sign --yes --tlog-upload=false --annotations "commit=$COMMIT" \
    --key "gcpkms://projects/$PROJECT/locations/$REGION/keyRings/rookery/cryptoKeys/image-signing" "$IMAGE"
}

scan() {
  found=$(gcloud artifacts docker images scan "$IMAGE" --remote --project="$PROJECT" --format='value(response.scan)')
  gcloud artifacts docker images list-vulnerabilities "$found" --project="$PROJECT" --format=json > "$FOLDER/findings.json"
}

verb=${1:?see the head of this file}
case $verb in
  check | bundle | sign | publish | image | scan) "$verb" ;;
  sign-image) sign_image ;;
  judge-scan) exec $PYTHON -m scripts.deploy.scan "$FOLDER/findings.json" ;;
  deploy)
    exec $PYTHON -m scripts.deploy revision --project "$PROJECT" --region "$REGION" --service "$SERVICE" --image "$IMAGE" \
      --model-uri "$MODEL_URI" --model-digest "$MODEL_DIGEST" --model-contract "$ROOKERY_MODEL_CONTRACT"
    ;;
  rollout)
    # the build that this is a step of ends after 4 hours, and whether it says so first nobody promises
    exec $PYTHON -m scripts.rollout run --project "$PROJECT" --region "$REGION" --service "$SERVICE" --cloud-logging \
      --bundle "$MODEL_URI" --digest "$MODEL_DIGEST" --timeout 10800
    ;;
  *) echo "error: no step $verb; see the head of $0" >&2; exit 2 ;;
esac
