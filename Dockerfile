# firstlook: a DICOM inference service beside the PACS. Research use only. Not for clinical diagnosis.
#
#   docker build --tag firstlook .                            for a machine with an NVIDIA GPU (falls back to the CPU)
#   docker build --build-arg EXTRA=cpu --tag firstlook:cpu .  smaller, without CUDA
#   EXTRA=cluster-gpu, EXTRA=cluster                          the same with Ray and S3, for several machines
#
# CUDA 13 and cuDNN 9, which onnxruntime-gpu needs, come as the nvidia-* wheels of requirements/gpu.lock, not from a
# CUDA base image: so every library is pinned by its hash in one file, both variants have the same base, and nothing
# but the driver is taken from the host (run with --gpus all).

FROM python:3.12-slim-bookworm AS build
ARG EXTRA=gpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/firstlook/venv
WORKDIR /build
COPY requirements/${EXTRA}.lock requirements/build.lock ./
RUN /opt/firstlook/venv/bin/pip install --require-hashes --only-binary=:all: --requirement ${EXTRA}.lock
COPY pyproject.toml README.md LICENSE ./
COPY service service
RUN /opt/firstlook/venv/bin/pip install --require-hashes --requirement build.lock \
    && /opt/firstlook/venv/bin/pip install --no-deps --no-build-isolation . \
    && /opt/firstlook/venv/bin/pip uninstall --yes setuptools pip

FROM python:3.12-slim-bookworm
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="firstlook" \
      org.opencontainers.image.description="A DICOM inference service for chest imaging. Research use only." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
RUN groupadd --gid 10001 firstlook \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/firstlook --shell /usr/sbin/nologin firstlook \
    && install --directory --owner=firstlook --group=firstlook --mode=0750 /var/lib/firstlook
COPY --from=build /opt/firstlook/venv /opt/firstlook/venv
COPY models /opt/firstlook/models
ENV PATH=/opt/firstlook/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FIRSTLOOK_INFER__MODELS_DIR=/opt/firstlook/models \
    FIRSTLOOK_STORE__DATA_DIR=/var/lib/firstlook \
    FIRSTLOOK_RECEIVE__HOST=0.0.0.0
USER 10001:10001
WORKDIR /var/lib/firstlook
VOLUME /var/lib/firstlook
EXPOSE 11112 8042
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8042/health/live', timeout=4)"]
ENTRYPOINT ["firstlook"]
CMD ["serve"]
