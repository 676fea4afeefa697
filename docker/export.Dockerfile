# syntax=docker/dockerfile:1
# NeMo, PyTorch and the export, to write a model repository from checkpoints. Run once per model.
#
# Without a GPU, set TORCH_INDEX to PyTorch's CPU index; it saves gigabytes.

ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
FROM ${PYTHON_IMAGE} AS build

ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
# Some requirements of NeMo are compiled. The final image has no compiler.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y -qq --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/nemo-triton
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/nemo-triton/bin/pip install -q ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH"
COPY pyproject.toml constraints/export.txt docker/requirements.py /source/
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 /source/requirements.py /source/pyproject.toml export > /source/export_requirements.txt \
    && /opt/nemo-triton/bin/pip install -q -c /source/export.txt -r /source/export_requirements.txt

FROM ${PYTHON_IMAGE}

ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="nemo-triton-export" \
    org.opencontainers.image.description="Exports NeMo checkpoints into a Triton model repository" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.licenses="Apache-2.0"
# NeMo caches downloads in the home folder.
RUN useradd --uid 1000 --create-home nemo \
    && install -d -o 1000 -g 1000 /models /checkpoints
COPY --from=build /opt/nemo-triton /opt/nemo-triton
COPY export_scripts /opt/nemo-triton/source/export_scripts
COPY nemo_triton /opt/nemo-triton/source/nemo_triton
ENV PATH=/opt/nemo-triton/bin:$PATH \
    PYTHONPATH=/opt/nemo-triton/source \
    PYTHONSAFEPATH=1
USER 1000:1000
WORKDIR /checkpoints
VOLUME /models
# A command that ends, not a service.
HEALTHCHECK NONE
ENTRYPOINT ["python3", "-m", "export_scripts.export"]
CMD ["--list"]
