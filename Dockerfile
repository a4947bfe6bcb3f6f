# `platform` is the one image of all our processes; `node-gpu` is the node agent on SGLang's own image.
#
#   docker build --target platform --tag hydra .
#   docker run --rm hydra gateway            any name of the table in runner/processes.py

ARG PYTHON_IMAGE=python:3.11-slim
ARG SGLANG_IMAGE=lmsysorg/sglang:v0.5.23

FROM ${PYTHON_IMAGE} AS platform

# Handed on where the caller's environment sets them; pip reads both by itself.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL

ENV PYTHONUNBUFFERED=1 \
    # A dozen processes on one machine: glibc's arenas would hold on to memory for each thread.
    MALLOC_ARENA_MAX=2 \
    # The root file system is read-only.
    HOME=/tmp \
    HYDRA_HOME=/var/lib/hydra \
    HYDRA_CONFIG_DIR=/opt/hydra/config

WORKDIR /opt/hydra

# What rarely changes comes first: a change of code builds nothing above the COPY of the code.
# The lock names everything (`make lock`); pip's own resolver would refuse its override of certifi.
COPY requirements/image.txt requirements/
RUN pip install --no-cache-dir --no-deps --require-hashes --requirement requirements/image.txt

# A new named volume takes its owner and mode from the folder that it covers.
RUN groupadd --gid 10001 hydra && useradd --uid 10001 --gid hydra --no-create-home --home-dir /tmp hydra \
 && cd /var/lib && install -d -o hydra -g hydra -m 0700 hydra \
 && cd hydra && install -d -o hydra -g hydra -m 0700 secrets gateway accounts lifecycle live_spend nodes logs access \
 && install -d -o hydra -g hydra -m 0755 handed handed/clickhouse handed/grafana \
 && install -d -o hydra -g hydra -m 0700 \
    handed/gateway handed/lifecycle handed/billing handed/node handed/warehouse handed/analyst \
 && printf '#!/usr/bin/env python\nfrom cli.__main__ import main\nmain()\n' > /usr/local/bin/hydra \
 && chmod 0755 /usr/local/bin/hydra
ENV PYTHONPATH=/opt/hydra

COPY . .
RUN python -m compileall -q adapters cli domain runner schemas services streams

USER hydra
ENTRYPOINT ["python", "-m", "runner.container"]

# The agent keeps an environment of its own beside SGLang's, whose pins differ from the gateway's.
FROM ${SGLANG_IMAGE} AS node-gpu
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
COPY requirements/image.txt /opt/hydra/requirements/
RUN python3 -m venv /opt/hydra-python \
 && /opt/hydra-python/bin/pip install --no-cache-dir --no-deps --require-hashes \
    --requirement /opt/hydra/requirements/image.txt
RUN groupadd --gid 10001 hydra && useradd --uid 10001 --gid hydra --no-create-home --home-dir /tmp hydra
COPY --from=platform --chown=10001:10001 /var/lib/hydra /var/lib/hydra
COPY --from=platform /opt/hydra /opt/hydra
# Not PYTHONPATH: engines inherit that, and have no business with our modules.
RUN install -d -o hydra -g hydra -m 0700 /var/lib/hydra/models \
 && /opt/hydra-python/bin/python -c "import site; print(site.getsitepackages()[0])" > /tmp/site \
 && echo /opt/hydra > "$(cat /tmp/site)/hydra.pth" && rm /tmp/site
ENV PYTHONUNBUFFERED=1 HOME=/tmp HYDRA_HOME=/var/lib/hydra HYDRA_CONFIG_DIR=/opt/hydra/config
WORKDIR /opt/hydra
USER 10001:10001
ENTRYPOINT ["/opt/hydra-python/bin/python", "-m", "runner.container"]
