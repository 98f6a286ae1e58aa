# The service's image; `make image` builds it and fills in the arguments (see DEPLOYMENT.md, "The image").
ARG PYTHON_VERSION=3.11
# `make pin-base` adds the digest here
ARG BASE_IMAGE=python:${PYTHON_VERSION}-slim-bookworm

# Dependencies come before the source, so that a change of the source rebuilds in seconds.
FROM ${BASE_IMAGE} AS packages
# Debian stable keeps one version, and none of it gets into the image
# hadolint ignore=DL3008
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
# bytecode depends on the order of sets
ENV PYTHONHASHSEED=0
COPY requirements-build.txt /build/
RUN python -m venv --without-pip /opt/venv && rm /opt/venv/bin/?ctivate* \
 && python -m pip install --no-cache-dir --quiet --no-deps --require-hashes --requirement /build/requirements-build.txt --target /build/setuptools
COPY scripts/image/packages.sh requirements-slim.txt /build/
RUN /build/packages.sh /build/requirements-slim.txt
# XGBoost and SciPy come on top, unless this is requirements-slim.txt, for bundles that ONNX Runtime serves
ARG REQUIREMENTS=requirements.txt
COPY ${REQUIREMENTS} /build/requirements.txt
RUN /build/packages.sh /build/requirements.txt

# The base without pip, package manager, setuid programs and logs.
FROM ${BASE_IMAGE} AS system
ENV PYTHONHASHSEED=0
COPY scripts/image/system.sh /build/
RUN /build/system.sh && rm -r /build

FROM packages AS program
WORKDIR /app
COPY scripts/image/parts.py /build/parts.py
COPY --from=system /var/lib/dpkg/status /build/system/var/lib/dpkg/status
COPY --from=system /usr/share/doc /build/system/usr/share/doc
RUN python /build/parts.py sbom --site /opt/venv --system /build/system > sbom.cdx.json \
 && python /build/parts.py licences --site /opt/venv --system /build/system > licences.txt
COPY LICENSE ./
COPY service ./service
COPY model ./model
# a bundle folder to bake in; a file stands for none
ARG BUNDLE=LICENSE
ARG BUNDLE_DIGEST=
COPY ${BUNDLE} ./bundle
# a baked-in bundle is verified, loaded and proven here: one that this image cannot serve stops the build
RUN if [ -d bundle ]; then /opt/venv/bin/python -B -c 'import sys; from pathlib import Path; from model import predictor, verify; \
      predictor.load(verify.read(Path("bundle"), sys.argv[1]))' "${BUNDLE_DIGEST}"; else rm bundle; fi \
 && python -m compileall -f -qq --invalidation-mode unchecked-hash service model \
 && chmod -R u=rwX,go=rX .

FROM scratch
# copied whole, as what was taken away would still lie in the layers of the base
# hadolint ignore=DL3067
COPY --from=system / /
COPY --from=packages /opt/venv /opt/venv
COPY --from=program /app /app
COPY --chmod=0755 scripts/image/serve /opt/venv/bin/serve
WORKDIR /app
USER 10001:10001
# ONNX Runtime would report to its maker
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    ROOKERY_BIND_HOST=0.0.0.0
EXPOSE 8080
ARG BASE_IMAGE
ARG BUNDLE_DIGEST=
ARG COMMIT=unknown
ARG CREATED=unknown
ENV ROOKERY_COMMIT=${COMMIT} ROOKERY_BUILD_TIME=${CREATED}
LABEL org.opencontainers.image.title="rookery" \
      org.opencontainers.image.description="Serves tabular models, and never gives a silent wrong answer" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      rookery.bundle.digest="${BUNDLE_DIGEST}"
# no shell between the platform's SIGTERM and Gunicorn
CMD ["gunicorn", "-c", "service/gunicorn_conf.py"]
