# syntax=docker/dockerfile:1
# The client: transcribe recordings and measure servers.

ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
FROM ${PYTHON_IMAGE} AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/nemo-triton
COPY pyproject.toml constraints/serve.txt docker/requirements.py /source/
WORKDIR /opt/nemo-triton/lib/python3.11/site-packages
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 /source/requirements.py /source/pyproject.toml client > /source/client.txt \
    && /opt/nemo-triton/bin/pip install -q -c /source/serve.txt -r /source/client.txt \
    && rm -r pip pip-* setuptools setuptools-* \
    && find numpy -type d -name tests -prune -exec rm -r {} +

FROM ${PYTHON_IMAGE}

ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="nemo-triton-client" \
    org.opencontainers.image.description="Transcribes recordings and measures recognizers served by Triton" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 1000 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin client \
    && install -d -o 1000 -g 1000 /audio
COPY --from=build /opt/nemo-triton /opt/nemo-triton
COPY nemo_triton /opt/nemo-triton/source/nemo_triton
# PYTHONSAFEPATH: import modules from the image only, not from the user's mounted folder.
# TMPDIR: bench writes decoded audio there, 115 MB per hour, which doesn't belong into memory.
ENV PATH=/opt/nemo-triton/bin:$PATH \
    PYTHONPATH=/opt/nemo-triton/source \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TMPDIR=/audio
VOLUME /audio
USER 1000:1000
WORKDIR /data
# A command that ends, not a service.
HEALTHCHECK NONE
ENTRYPOINT ["python3", "-m"]
CMD ["nemo_triton.commands.bench", "--help"]
