#!/usr/bin/env bash
# Builds and runs the image, hardened, on whatever is there: docker or podman with the official base, or on a bare Debian
# as root with buildah, podman and runc from its packages and a stand-in base made of this machine's Python.
#
#   container.sh prepare [PYTHON]       install what is missing, get or make the base; exit status 75 and "skipped: why"
#                                       where neither an engine nor root is available (PYTHON: default python3)
#   container.sh build [OPTION...]      scripts/image/image.sh build, with the base; IMAGE, VARIANT, BUNDLE as there
#   container.sh run IMAGE NAME PORT [OPTION...]   as Cloud Run would, hardened: uid 10001, read-only root, no capabilities,
#                                       256 processes, $PORT; MEMORY=512m CPUS=1 change the limits, COMMAND=serve the command
#   container.sh stop NAME              SIGTERM, print the exit status, remove
#   container.sh export|sizes IMAGE     the image's file system as a tar on stdout, or its megabytes by part
#   container.sh engine ARG...          the engine itself, for everything else
#   container.sh clean                  remove what was made here
#
# What the stand-in proves: every step of the Dockerfile works, the pinned requirements resolve, and the service starts,
# serves and stops under those limits. What it cannot prove: anything about the official base image's own bits.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=${CONTAINER_HOME:-${TMPDIR:-/tmp}/rookery-container-$(id -u)}
authorities=/etc/ssl/certs/ca-certificates.crt

use_work_folder() {
  mkdir -p "$work/tmp"
  # of ours alone: nothing is found in, or left in, the machine's own storage
  cat > "$work/storage.conf" <<EOF
[storage]
driver = "${CONTAINER_DRIVER:-overlay}"
graphroot = "$work/storage"
runroot = "$work/run"
EOF
  cat > "$work/containers.conf" <<EOF
[containers]
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)", "nproc=4096:4096"]
log_driver = "k8s-file"
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
EOF
  export CONTAINERS_STORAGE_CONF=$work/storage.conf CONTAINERS_CONF=$work/containers.conf TMPDIR=$work/tmp
}

choose() {
  local python_version=${1:-}
  if [ -f "$work/mode" ]; then mode=$(cat "$work/mode"); return; fi
  for mode in docker podman; do
    if command -v $mode >/dev/null && $mode info >/dev/null 2>&1; then
      if timeout 120 "$mode" pull --quiet "python:$python_version-slim-bookworm" >/dev/null 2>&1; then return; fi
    fi
  done
  mode=local
}

install_packages() {
  local missing=() name
  for name in buildah podman runc mmdebstrap; do command -v $name >/dev/null || missing+=("$name"); done
  if [ ${#missing[@]} -eq 0 ]; then return; fi
  if [ "$(id -u)" != 0 ]; then skip "no container engine works here, and only root could install one"; fi
  if ! command -v apt-get >/dev/null; then skip "no container engine works here, and there is no apt-get to install one"; fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

skip() { echo "skipped: $1"; exit 75; }

# Debian's smallest system with this machine's CPython in /usr/local, laid out as python:X.Y-slim-bookworm is
make_base() {
  local python=$1 container index
  export PREFIX XY
  PREFIX=$("$python" -c 'import sys; print(sys.base_prefix)')
  XY=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  base=localhost/rookery-base:$XY
  if buildah images --quiet "$base" >/dev/null 2>&1; then return; fi
  mmdebstrap --quiet --variant=minbase --mode=root \
    --include=ca-certificates,netbase,libbz2-1.0,libffi8,liblzma5,libncursesw6,libreadline8,libsqlite3-0,libssl3,libuuid1,zlib1g,libexpat1 \
    --aptopt='Apt::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --customize-hook='tar -C "$PREFIX" --exclude="lib/python$XY/site-packages/*" --exclude="lib/python$XY/test" --exclude="lib/python$XY/config-*" --exclude="lib/python$XY/idlelib" --exclude="lib/python$XY/tkinter" --exclude="*/__pycache__" --exclude="*.a" --exclude="share/man" -cf - "bin/python$XY" lib include | tar -C "$1/usr/local" -xf -' \
    --customize-hook='if command -v strip >/dev/null; then strip --strip-unneeded "$1"/usr/local/lib/libpython3*.so* "$1/usr/local/lib/python$XY"/lib-dynload/*.so || true; fi' \
    --customize-hook='ln -sf "python$XY" "$1/usr/local/bin/python3"; ln -sf python3 "$1/usr/local/bin/python"; chown -R 0:0 "$1/usr/local"; chroot "$1" ldconfig; chroot "$1" /usr/local/bin/python3 -m ensurepip --default-pip >/dev/null 2>&1' \
    --customize-hook='find "$1/usr/local" -name __pycache__ -type d -prune -exec rm -rf {} +; rm -rf "$1"/var/lib/apt/lists/* "$1"/var/log/* "$1/root/.cache"' \
    bookworm "$work/base.tar"
  container=$(buildah from scratch)
  buildah add -q "$container" "$work/base.tar" / >/dev/null
  rm "$work/base.tar"
  buildah config --env PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin --env LANG=C.UTF-8 --cmd python3 "$container"
  # how this machine reaches its package index, for the build alone: the image does not inherit it
  buildah config --env "PIP_CERT=$authorities" "$container"
  index=$("$python" -m pip config get global.index-url 2>/dev/null) && buildah config --env "PIP_INDEX_URL=$index" "$container"
  buildah commit -q --rm "$container" "$base" >/dev/null
}

prepare() {
  local python=${1:-python3} version
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  choose "$version"
  if [ "$mode" = local ]; then
    install_packages
    if [ "$(id -u)" != 0 ]; then skip "the base can be neither pulled nor, without root, made"; fi
    use_work_folder
    make_base "$python"
  else
    base=python:$version-slim-bookworm
  fi
  mkdir -p "$work"
  echo "$mode" > "$work/mode"
  echo "$base" > "$work/base"
  echo "$mode, base $base ($("$python" -V))"
}

build() {
  # the Dockerfile's own base, digest and all, is what an engine with a registry builds on
  if [ "$mode" != local ]; then ENGINE=$mode "$here/../../scripts/image/image.sh" build "$@"; return; fi
  if [ -f "$authorities" ]; then set -- --volume "$authorities:$authorities:ro" "$@"; fi
  BASE_IMAGE=${BASE_IMAGE:-$(cat "$work/base")} ENGINE=buildah BUILDAH_ISOLATION=chroot \
    "$here/../../scripts/image/image.sh" build --pull-never "$@"
}

run() {
  local image=$1 name=$2 port=$3 local_options=()
  shift 3
  if [ "$engine" = podman ]; then local_options=(--read-only-tmpfs=false); fi
  "$engine" run --detach --name "$name" --pull=never --network=host --read-only "${local_options[@]}" --shm-size 64m \
    --tmpfs /tmp:rw,noexec,nosuid,nodev,size=64m --user 10001:10001 --cap-drop=ALL --security-opt no-new-privileges --pids-limit 256 \
    --memory "${MEMORY:-512m}" --memory-swap "${MEMORY:-512m}" --cpus "${CPUS:-1}" --env PORT="$port" "$@" "$image" ${COMMAND:+"$COMMAND"} >/dev/null
}

clean() {
  if [ "$mode" = local ]; then
    podman rm --all --force --time 3 >/dev/null 2>&1 || true
    podman image unmount --all >/dev/null 2>&1 || true
    umount -q "$work/storage/overlay" 2>/dev/null || true
  fi
  rm -rf "$work"
}

verb=${1:?see the head of this file}
shift
if [ "$verb" = prepare ]; then prepare "$@"; exit; fi
if [ ! -f "$work/mode" ]; then echo "error: run container.sh prepare first" >&2; exit 2; fi
mode=$(cat "$work/mode")
if [ "$mode" = local ]; then use_work_folder; engine=podman; else engine=$mode; fi
case $verb in
  build) build "$@" ;;
  run) run "$@" ;;
  stop)
    "$engine" stop -t 15 "$1" >/dev/null
    "$engine" inspect --format '{{.State.ExitCode}}' "$1"
    "$engine" rm "$1" >/dev/null ;;
  export | sizes) IMAGE=$1 ENGINE=$engine "$here/../../scripts/image/image.sh" "$verb" ;;
  engine) "$engine" "$@" ;;
  clean) clean ;;
  *) echo "error: no verb $verb" >&2; exit 2 ;;
esac
