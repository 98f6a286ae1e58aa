#!/bin/sh
# Installs hashed requirements into /opt/venv while the image is built; what stands there already stays as it is.
# What only tests, builds or quantizes is left out; the rest is compiled, each package by itself, which gives the same
# bytes every time.
set -eu
export PYTHONDONTWRITEBYTECODE=1
requirements=$1
touch /build/before
# gunicorn-h1c has no wheel for Linux; without debug information it compiles to the same anywhere
CFLAGS=-g0 PYTHONPATH=/build/setuptools python -m pip --python /opt/venv/bin/python install --disable-pip-version-check \
  --no-build-isolation --no-cache-dir --no-compile --no-deps --only-binary :all: --no-binary gunicorn-h1c --quiet \
  --require-hashes --requirement "$requirements"

cd /opt/venv/lib/python3.*/site-packages
find . -type d \( -name test -o -name tests \) -prune -exec rm -r {} +
find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.a' -o -name '*.h' -o -name '*.hpp' \) -delete
rm -rf onnxruntime/quantization onnxruntime/tools onnxruntime/transformers
# a second copy of ONNX Runtime, for other languages than Python
rm -f onnxruntime/capi/libonnxruntime.so.*
strip uvloop/*.so

python -m compileall -f -q -l --invalidation-mode unchecked-hash .
find . -mindepth 1 -maxdepth 1 -type d -newer /build/before ! -name '*.dist-info' ! -name '*.libs' -print0 |
  xargs -0 -r -n 1 -P 4 python -m compileall -f -q --invalidation-mode unchecked-hash > /build/compiled
