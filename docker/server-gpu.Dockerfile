# syntax=docker/dockerfile:1
# Triton for GPUs: NVIDIA's server with its C++ onnxruntime backend and no other backend.
#
# As Triton's compose.py writes it for `--backend onnxruntime` (release 26.08), without build dependencies: NVIDIA's small
# base image with CUDA, and server and backend from the full image.

# Has the fixes of NVIDIA's security bulletins up to September 2026 (docs/security_server.md). 26.10 changed the base image.
ARG TRITON=26.08
FROM nvcr.io/nvidia/tritonserver:${TRITON}-py3 AS full

FROM nvcr.io/nvidia/tritonserver:${TRITON}-py3-min

ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="nemo-triton-server-gpu" \
    org.opencontainers.image.description="Triton Inference Server with NVIDIA's onnxruntime backend, for GPUs" \
    org.opencontainers.image.version="${VERSION}"
ENV PATH=/opt/tritonserver/bin:${PATH} \
    LD_LIBRARY_PATH=/opt/tritonserver/backends/onnxruntime:${LD_LIBRARY_PATH} \
    UCX_MEM_EVENTS=no \
    TCMALLOC_RELEASE_RATE=200 \
    TRITON_SERVER_GPU_ENABLED=1 \
    TRITON_SERVER_USER=triton-server \
    NVIDIA_PRODUCT_NAME="Triton Server"
# The base image has a user 1000 whose name differs between releases. A new volume gets its owner from /models.
RUN userdel --remove tensorrt-server > /dev/null 2>&1 || true; \
    userdel --remove ubuntu > /dev/null 2>&1 || true; \
    id -u triton-server > /dev/null 2>&1 || useradd triton-server; \
    install -d -o 1000 -g 1000 /models; \
    [ "$(id -u triton-server):$(id -g triton-server)" = 1000:1000 ]
# The versions follow from the base image's release of Ubuntu.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        curl libb64-0d libcurl4 libgomp1 libgoogle-perftools4 libjemalloc2 libnuma1 libxml2 \
    && rm -rf /var/lib/apt/lists/*
# For GPU metrics.
COPY --from=full /usr/lib/x86_64-linux-gnu/libdcgm.so.* /usr/lib/x86_64-linux-gnu/
WORKDIR /opt/tritonserver
RUN rm -rf /opt/tritonserver/*
COPY --from=full /opt/tritonserver/LICENSE /opt/tritonserver/TRITON_VERSION \
    /opt/tritonserver/NVIDIA_Deep_Learning_Container_License.pdf ./
COPY --from=full /opt/tritonserver/bin bin/
COPY --from=full /opt/tritonserver/lib lib/
COPY --from=full /opt/tritonserver/backends/onnxruntime backends/onnxruntime/
COPY docker/server-gpu/launch_tritonserver docker/server-gpu/triton_is bin/
# TensorRT's engines are written to a folder here, unless the export sets --engine-cache.
WORKDIR /tmp
USER 1000:1000
VOLUME /models
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=5s --timeout=5s --start-period=300s --retries=3 \
    CMD ["triton_is", "ready"]
ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh", "launch_tritonserver"]
CMD ["--model-repository=/models"]
