# syntax=docker/dockerfile:1
# Triton for CPUs: the tritonserver of the package nvidia-pytriton with this project's onnxruntime backend.

ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
FROM ${PYTHON_IMAGE} AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/nemo-triton
COPY constraints/serve.txt /source/
# Without nvidia-pytriton's requirements: they belong to its Python API, and only its binaries are used.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/nemo-triton/bin/pip install -q -c /source/serve.txt onnxruntime "numpy<2" \
    && /opt/nemo-triton/bin/pip install -q -c /source/serve.txt --no-deps nvidia-pytriton
COPY server /opt/nemo-triton/lib/python3.11/site-packages/server
COPY docker/server-cpu/tritonserver docker/server-cpu/triton_is /opt/nemo-triton/bin/
WORKDIR /opt/nemo-triton/lib/python3.11/site-packages
# Remove what serving does not load: stubs and a shared library for other Pythons, tools, tests, pip.
RUN /opt/nemo-triton/bin/tritonserver --assemble-only \
    && find pytriton/tritonserver/python_backend_stubs -mindepth 1 -maxdepth 1 ! -name 3.11 -exec rm -r {} + \
    && rm -r nvidia_pytriton.libs/libpython3-*.so* pip pip-* setuptools setuptools-* \
    && rm -r onnxruntime/backend onnxruntime/datasets onnxruntime/quantization onnxruntime/tools \
        onnxruntime/transformers \
    && find numpy -type d -name tests -prune -exec rm -r {} +

FROM ${PYTHON_IMAGE}

ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="nemo-triton-server-cpu" \
    org.opencontainers.image.description="Triton Inference Server with an onnxruntime backend, for CPUs" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.licenses="Apache-2.0 AND BSD-3-Clause AND MIT"
# A new volume gets its owner from this folder, and the export's user 1000 must be able to write there.
RUN useradd --uid 1000 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tritonserver \
    && install -d -o 1000 -g 1000 /models
COPY --from=build /opt/nemo-triton /opt/nemo-triton
ENV PATH=/opt/nemo-triton/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
VOLUME /models
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=5s --timeout=5s --start-period=120s --retries=3 \
    CMD ["triton_is", "ready"]
ENTRYPOINT ["tritonserver"]
CMD ["--model-repository=/models"]
