#!/bin/sh
# Builds the image with docker, podman or buildah, whichever works here.
#
#   image.sh engine              print the engine
#   image.sh build [OPTION...]   build $IMAGE; options go to the engine
#   image.sh export              write the image's file system as a tar to stdout
#   image.sh sizes               print the image's size by part
#   image.sh sbom                print the SBOM that was made with the image
#   image.sh pin                 write the base image's digest, as its registry has it, into the Dockerfile
#
# Environment:
#   IMAGE         name of the image (rookery)
#   VARIANT       full, or slim without XGBoost, for bundles that ONNX Runtime serves (full)
#   BUNDLE        bundle folder to bake in, relative to the repository (none)
#   BASE_IMAGE    another base than the Dockerfile's
#   ENGINE        docker, podman or buildah
#   COMMIT, SOURCE_DATE_EPOCH     what to say of the source instead of asking git
set -eu
cd "$(dirname "$0")/../.."

IMAGE=${IMAGE:-rookery}
VARIANT=${VARIANT:-full}
BUNDLE=${BUNDLE:-}

find_engine() {
  for name in ${ENGINE:-docker podman buildah}; do
    if command -v "$name" >/dev/null && "$name" info >/dev/null 2>&1; then echo "$name"; return; fi
  done
  echo "error: neither docker, podman nor buildah works here; install one of them" >&2
  return 1
}

# the state of the source: its commit, marked if the tree is not clean
commit() {
  found=$(git rev-parse HEAD 2>/dev/null) || { echo unknown; return; }
  if [ -n "$(git status --porcelain 2>/dev/null)" ]; then found=$found-dirty; fi
  echo "$found"
}

# the time of the commit, so that building it again gives the same
created() {
  seconds=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
  date -u -d "@$seconds" +%Y-%m-%dT%H:%M:%SZ 2>/dev/null || date -u -r "$seconds" +%Y-%m-%dT%H:%M:%SZ
}

build() {
  case $VARIANT in
    full) requirements=requirements.txt ;;
    slim) requirements=requirements-slim.txt ;;
    *) echo "error: VARIANT is full or slim, not $VARIANT" >&2; return 2 ;;
  esac
  set -- "$@" --build-arg "REQUIREMENTS=$requirements" --build-arg "COMMIT=${COMMIT:-$(commit)}" --build-arg "CREATED=$(created)"
  if [ -n "${BASE_IMAGE:-}" ]; then set -- "$@" --build-arg "BASE_IMAGE=$BASE_IMAGE"; fi
  if [ -n "$BUNDLE" ]; then
    if [ -f "$BUNDLE/current" ]; then BUNDLE=${BUNDLE%/}/$(cat "$BUNDLE/current"); fi
    digest=sha256:$(sha256sum "$BUNDLE/manifest.json" | cut -d ' ' -f 1)
    set -- "$@" --build-arg "BUNDLE=$BUNDLE" --build-arg "BUNDLE_DIGEST=$digest"
  fi
  case $engine in
    docker) DOCKER_BUILDKIT=1 docker build --tag "$IMAGE" "$@" . ;;
    podman) podman build --layers --format docker --tag "$IMAGE" "$@" . ;;
    buildah) buildah build --layers --format docker --tag "$IMAGE" "$@" . ;;
  esac
}

export_files() {
  if [ "$engine" = buildah ]; then
    container=$(buildah from --pull-never "$IMAGE")
    tar -C "$(buildah mount "$container")" -cf - .
    buildah rm "$container" >/dev/null
  else
    container=$("$engine" create "$IMAGE")
    "$engine" export "$container"
    "$engine" rm "$container" >/dev/null
  fi
}

pin() {
  base=$(sed -n 's/^ARG PYTHON_VERSION=//p' Dockerfile)
  base=python:$base-slim-bookworm
  "$engine" pull --quiet "$base" >/dev/null
  case $engine in
    docker | podman) found=$("$engine" image inspect --format '{{index .RepoDigests 0}}' "$base") ;;
    buildah) found=@$(buildah images --format '{{.Digest}}' "$base") ;;
  esac
  digest=${found#*@}
  if ! expr "$digest" : 'sha256:[0-9a-f]\{64\}$' >/dev/null; then
    echo "error: $engine tells no digest of $base" >&2
    return 1
  fi
  sed "s|^ARG BASE_IMAGE=.*|ARG BASE_IMAGE=$base@$digest|" Dockerfile > Dockerfile.pinned
  cat Dockerfile.pinned > Dockerfile
  rm Dockerfile.pinned
  echo "the Dockerfile's base is $base@$digest"
}

engine=$(find_engine)
verb=${1:?see the head of this file}
shift
case $verb in
  engine) echo "$engine" ;;
  build) build "$@" ;;
  export) export_files ;;
  sizes) export_files | python3 scripts/image/parts.py sizes ;;
  sbom) export_files | tar -xOf - --wildcards '*app/sbom.cdx.json' ;;
  pin) pin ;;
  *) echo "error: no verb $verb" >&2; exit 2 ;;
esac
