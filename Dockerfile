# `segfusion serve` in a container, as docs/serve.md shows it. The model is mounted at /model, the token at /run/secrets/token.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
ARG EXTRAS=serve
RUN python -m venv /opt/segfusion
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY segfusion_jax segfusion_jax
RUN /opt/segfusion/bin/pip install --no-cache-dir ".[${EXTRAS}]"

FROM python:${PYTHON}-slim-bookworm
# the compiler also tells at each start for which processor the kernels were compiled
RUN apt-get update && apt-get install --no-install-recommends -y g++ && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home segfusion
COPY --from=build /opt/segfusion /opt/segfusion
ENV PATH=/opt/segfusion/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /home/segfusion
RUN python -c "from segfusion_jax.ops import native; raise SystemExit(not native.available())"
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=10m \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=5)"]
ENTRYPOINT ["segfusion"]
CMD ["serve", "--model", "/model", "--host", "0.0.0.0", "--token-file", "/run/secrets/token", "--allow-host", "localhost"]
