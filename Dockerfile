# One image for every role: CLINIC_ROLE=api (or `--role api` behind the image's name) chooses.

# The newest Python for which all locked dependencies, those of the tests too, have wheels; it gets
# security fixes until October 2030 (PEP 745).
FROM python:3.14-slim-trixie AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1


FROM base AS build
WORKDIR /app
COPY requirements.txt ./
# Wheels only: a package that asks for a compiler fails here. The environment has no pip of its own.
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes \
        --only-binary :all: --requirement requirements.txt \
    && rm requirements.txt
COPY clinic.py ./
COPY clinic clinic
COPY migrations migrations
# Compiled here, because nothing can be written where it runs; readable whatever the umask of the
# checkout was. SQLite follows the link: database and journal lie in the volume, under a read-only root.
RUN python -m compileall -q --invalidation-mode checked-hash clinic \
    && chmod -R a=rX . \
    && ln -s /data/clinic.db clinic.db


FROM base
# Sticky and open, as /tmp is, so that `--user` may name any number.
RUN mkdir --mode 1777 /data
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    CLINIC_HOST=0.0.0.0
VOLUME /data
USER 10001:10001
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
# Alive, not ready: where unhealthy containers are replaced, a database that is away must not count.
# A role, a host or a port is known here only from the environment, not from arguments; listening on
# all addresses is listening on loopback. http.client asks directly; urllib would obey a proxy variable.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-I", "-S", "-c", "\
import http.client, os;\
consumer = os.environ.get('CLINIC_ROLE') == 'consumer';\
port = int(os.environ.get('CLINIC_PORT') or (8001 if consumer else 8000));\
host = os.environ.get('CLINIC_HOST') or '127.0.0.1';\
host = {'0.0.0.0': '127.0.0.1', '::': '::1'}.get(host, host);\
clinic = http.client.HTTPConnection(host, port, timeout=4);\
clinic.request('GET', '/health/live');\
raise SystemExit(clinic.getresponse().status != 200)"]
ENTRYPOINT ["python", "clinic.py"]
