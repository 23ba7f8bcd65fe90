# retrain in a container:
#
#   guess   LiteRT and numpy: guesses and sorts                  make image
#   full    scikit-learn and TensorFlow as well: does it all     make image
#   gpu     CUDA as well, for NVIDIA cards (x86-64)              make image-gpu
#
# `make test-image` runs what was built as it is meant to be run: by any user, with no network, no capabilities and
# nothing to write to but the folders that are mounted.
ARG BASE_IMAGE=debian:trixie-slim

FROM ${BASE_IMAGE} AS base
LABEL org.opencontainers.image.title=retrain \
      org.opencontainers.image.description="Teaches an image classifier your own categories, in seconds" \
      org.opencontainers.image.licenses=Apache-2.0
# python3: the interpreter
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* /usr/share/doc/* \
    && useradd --uid 1000 --no-create-home --home-dir /tmp retrain
# A user who is not in /etc/passwd still has a home; nothing needs to be written there.
ENV PATH=/usr/lib/retrain/bin:$PATH HOME=/tmp LANG=C.UTF-8
WORKDIR /work
ENTRYPOINT ["retrain"]
CMD ["--help"]
# Only a server has a health of its own to tell.
HEALTHCHECK --start-period=30s --timeout=10s CMD ["python3", "-c", "import urllib.request as u; \
    b'serve' in open('/proc/1/cmdline', 'rb').read().split(b'\\0') and u.urlopen('http://127.0.0.1:8080/health')"]

# What builds the images and does not stay in them
FROM base AS tools
# python3-venv: brings pip
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && python3 -m venv /tools \
    && python3 -m venv --without-pip /usr/lib/retrain

FROM base AS guess-packages
COPY --from=tools /usr/lib/retrain /usr/lib/retrain
COPY requirements-guess.txt /usr/lib/retrain/
RUN --mount=type=bind,from=tools,source=/tools,target=/tools --mount=type=cache,target=/tmp/.cache \
    /tools/bin/pip --python /usr/lib/retrain install -qq --require-hashes -r /usr/lib/retrain/requirements-guess.txt

FROM guess-packages AS full-packages
COPY requirements-full.txt /usr/lib/retrain/
RUN --mount=type=bind,from=tools,source=/tools,target=/tools --mount=type=cache,target=/tmp/.cache \
    /tools/bin/pip --python /usr/lib/retrain install -qq --require-hashes -r /usr/lib/retrain/requirements-full.txt \
    # for those who compile operations of their own
    && rm -r /usr/lib/retrain/lib/python3*/site-packages/tensorflow/include

FROM full-packages AS gpu-packages
COPY requirements-gpu.txt /usr/lib/retrain/
RUN --mount=type=bind,from=tools,source=/tools,target=/tools --mount=type=cache,target=/tmp/.cache \
    /tools/bin/pip --python /usr/lib/retrain install -qq --require-hashes -r /usr/lib/retrain/requirements-gpu.txt \
    # TensorFlow does not look into each of these by itself.
    && find /usr/lib/retrain -path '*/nvidia/*/lib' -type d >/etc/ld.so.conf.d/retrain.conf && ldconfig

# The backbones that are not shipped: built once, here, so that no container needs the network or a cache for them
FROM full-packages AS builder
WORKDIR /src
COPY retrain/*.py retrain/
COPY retrain/backbones retrain/backbones
COPY retrain/tf retrain/tf
RUN XDG_CACHE_HOME=/built python3 -c 'from retrain.backbones import *; list(map(load_backbone, BACKBONES))'

# retrain itself comes last, so that a change to it rebuilds little.
FROM guess-packages AS wheel
WORKDIR /src
COPY pyproject.toml LICENSE NOTICE ./
COPY retrain retrain
RUN --mount=type=bind,from=tools,source=/tools,target=/tools \
    touch README.md \
    && /tools/bin/pip --python /usr/lib/retrain wheel -qq --no-deps --no-build-isolation --wheel-dir /wheel .

# TMPDIR: TensorFlow insists on a place to write to, and shared memory is one whatever else is read-only.
FROM guess-packages AS guess
RUN --mount=type=bind,from=tools,source=/tools,target=/tools \
    --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /tools/bin/pip --python /usr/lib/retrain install -qq --no-deps --no-index /wheel/*.whl
ENV RETRAIN_STAGE=guess TMPDIR=/dev/shm
USER 1000:1000

FROM full-packages AS full
COPY --from=builder /built/retrain/backbones /usr/lib/retrain/share/retrain/backbones
RUN --mount=type=bind,from=tools,source=/tools,target=/tools \
    --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /tools/bin/pip --python /usr/lib/retrain install -qq --no-deps --no-index /wheel/*.whl
ENV RETRAIN_STAGE=full TMPDIR=/dev/shm
USER 1000:1000

FROM gpu-packages AS gpu
COPY --from=builder /built/retrain/backbones /usr/lib/retrain/share/retrain/backbones
RUN --mount=type=bind,from=tools,source=/tools,target=/tools \
    --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /tools/bin/pip --python /usr/lib/retrain install -qq --no-deps --no-index /wheel/*.whl
ENV RETRAIN_STAGE=gpu TMPDIR=/dev/shm
# The engine's NVIDIA toolkit reads these.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
