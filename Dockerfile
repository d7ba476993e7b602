# The workers' images: docker build --target cpu|cuda|tensorrt . (a release: image/build.sh, which gives base images by digest).
# Each stage's files are made by image/tree.sh, which a test runs, too: packages, models and code are layers of their own, so
# that a change of code pushes no CUDA. CUDA comes as Python packages, the driver from the node. TensorRT's libraries are on
# NVIDIA's own index, which no lock file can name: for that target give an image that has them, and Python 3.12, as BASE.
ARG PYTHON=python:3.12-slim-bookworm
ARG BASE=python:3.12-slim-bookworm

FROM ${PYTHON} AS cpu-packages
WORKDIR /source
COPY image/tree.sh image/
COPY requirements/cpu.txt requirements/
RUN sh image/tree.sh cpu /opt/penstock packages

FROM ${PYTHON} AS cuda-packages
WORKDIR /source
COPY image/tree.sh image/
COPY requirements/cuda.txt requirements/
RUN sh image/tree.sh cuda /opt/penstock packages

FROM cpu-packages AS cpu-code
COPY requirements/image.txt requirements/
COPY pyproject.toml README.md CHANGELOG.md LICENSE NOTICE ./
COPY schemas schemas
COPY worker worker
RUN sh image/tree.sh cpu /opt/penstock code

FROM cuda-packages AS cuda-code
COPY requirements/image.txt requirements/
COPY pyproject.toml README.md CHANGELOG.md LICENSE NOTICE ./
COPY schemas schemas
COPY worker worker
RUN sh image/tree.sh cuda /opt/penstock code

FROM ${BASE} AS base
ARG BASE
ARG RELEASE=
ARG REVISION=unknown
LABEL org.opencontainers.image.title="penstock" \
      org.opencontainers.image.description="Kafka to Qdrant through embedding models on ONNX Runtime" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.revision="${REVISION}"
RUN case "${RELEASE}:${BASE}" in \
      :* | *@sha256:*) ;; \
      *) echo "penstock: a release is built on an image by digest: BASE=${BASE}@sha256:…; image/build.sh finds it" >&2; exit 1 ;; \
    esac
ENV PYTHONPATH=/opt/penstock/code:/opt/penstock/lib PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache PENSTOCK_MONITOR__PORT=9464
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["python", "-m", "penstock"]
CMD ["--help"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-m", "penstock.observe.health"]

FROM base AS cuda
# What CUDA 13 asks of the node: the toolkit of NVIDIA refuses to start the container on an older driver.
LABEL com.nvidia.driver.minimum="580"
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility NVIDIA_REQUIRE_CUDA="cuda>=13.0"
COPY --from=cuda-packages /opt/penstock/lib /opt/penstock/lib
COPY --from=cuda-code /opt/penstock/shipped /opt/penstock/shipped
COPY --from=cuda-code /opt/penstock/code /opt/penstock/code
COPY --from=cuda-code /opt/penstock/sbom.cdx.json /opt/penstock/

FROM cuda AS tensorrt
# ONNX Runtime links TensorRT 10: as a Python package, or as libraries that the loader finds.
RUN python -c 'import tensorrt; assert tensorrt.__version__.startswith("10.")' 2>/dev/null || \
    python -c 'import ctypes; [ctypes.CDLL(f"{name}.so.10") for name in ("libnvinfer", "libnvonnxparser")]' 2>/dev/null || \
    { echo "penstock: BASE has no TensorRT 10: give an image with it, and Python 3.12, as --build-arg BASE=…" >&2; exit 1; }
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s CMD ["python", "-m", "penstock.observe.health"]

FROM base AS cpu
COPY --from=cpu-packages /opt/penstock/lib /opt/penstock/lib
COPY --from=cpu-code /opt/penstock/shipped /opt/penstock/shipped
COPY --from=cpu-code /opt/penstock/code /opt/penstock/code
COPY --from=cpu-code /opt/penstock/sbom.cdx.json /opt/penstock/
