# One image for every part of the service; docker-compose.yml says which part a container is.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
RUN python -m venv --without-pip /opt/tydzen
COPY requirements/service.txt requirements/
RUN pip --python /opt/tydzen/bin/python install --require-hashes --only-binary :all: -r requirements/service.txt
COPY pyproject.toml README.md LICENSE worker.py ./
COPY service service
COPY migrations migrations
COPY templates templates
RUN pip --python /opt/tydzen/bin/python install --no-deps --editable . \
 && /opt/tydzen/bin/python -m compileall -q service worker.py migrations

FROM python:3.13-slim
# What runs in production can install nothing.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.13/site-packages/pip* /usr/local/lib/python3.13/ensurepip
RUN groupadd --gid 10001 tydzen \
 && useradd --uid 10001 --gid tydzen --no-create-home --home-dir /data --shell /usr/sbin/nologin tydzen \
 && install --directory --owner tydzen --group tydzen --mode 0700 /data
COPY --from=build /opt/tydzen /opt/tydzen
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/opt/tydzen/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TYDZEN_DATA_DIR=/data \
    TYDZEN_WEB_HOST=0.0.0.0
USER tydzen
VOLUME /data
EXPOSE 8000
CMD ["tydzen", "web"]
