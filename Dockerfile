# One server. DATABASE_URL must name a Postgres: the image starts none.
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/heddle
COPY requirements.lock ./
RUN /opt/heddle/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.lock
COPY VERSION ./
COPY alembic ./alembic
COPY libs ./libs
COPY graphs ./graphs
RUN /opt/heddle/bin/pip install --no-cache-dir --no-deps --no-build-isolation \
    ./libs/core ./libs/server ./libs/cli ./libs/kit ./graphs

FROM python:3.13-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home heddle
COPY --from=build /opt/heddle /opt/heddle
WORKDIR /app
COPY agent.json ./
COPY graphs ./graphs
RUN mkdir /data && chown heddle:heddle /data && chmod 700 /data
ENV PATH=/opt/heddle/bin:$PATH \
    HEDDLE_DATA_DIR=/data \
    ENVIRONMENT=production \
    LOG_JSON=true \
    PYTHONUNBUFFERED=1
USER heddle
VOLUME /data
EXPOSE 2024
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:2024/ready', timeout=2)"]
# Without an auth handler the server refuses a host that others can reach. Publish the port on 127.0.0.1 only, or put an
# authenticating proxy in front.
CMD ["sh", "-c", ": \"${DATABASE_URL:?set DATABASE_URL to a Postgres, for example postgresql://user:password@host:5432/heddle}\" && exec heddle serve --config agent.json --host 0.0.0.0 --port 2024 --allow-unauthenticated"]
