# The workers' images: docker build --target cpu|cuda|tensorrt . Each stage's files are made by image/tree.sh, which a test
# runs, too. CUDA comes as Python packages, the driver from the node. TensorRT's libraries are on NVIDIA's own index, which
# no lock file can name: for that target give an image that has them, and Python 3.12, as BASE.
ARG PYTHON=3.12-slim-bookworm
ARG BASE=python:3.12-slim-bookworm

FROM python:${PYTHON} AS source
WORKDIR /source
COPY pyproject.toml README.md CHANGELOG.md LICENSE NOTICE ./
COPY requirements requirements
COPY schemas schemas
COPY worker worker
COPY image image

FROM source AS cpu-tree
RUN sh image/tree.sh cpu /opt/penstock
FROM source AS cuda-tree
RUN sh image/tree.sh cuda /opt/penstock

FROM ${BASE} AS base
ARG REVISION=unknown
LABEL org.opencontainers.image.title="penstock" \
      org.opencontainers.image.description="Kafka to Qdrant through embedding models on ONNX Runtime" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
ENV PYTHONPATH=/opt/penstock/lib PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp XDG_CACHE_HOME=/tmp/cache \
    PENSTOCK_MONITOR__PORT=9464
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["python", "-m", "penstock"]
CMD ["--help"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-m", "penstock.observe.health"]

FROM base AS cuda
COPY --from=cuda-tree /opt/penstock /opt/penstock
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM cuda AS tensorrt
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s CMD ["python", "-m", "penstock.observe.health"]

FROM base AS cpu
COPY --from=cpu-tree /opt/penstock /opt/penstock
