# syntax=docker/dockerfile:1
# The server on vLLM's own image, for NVIDIA GPUs. Images are chosen by content:
#
#   docker buildx imagetools inspect vllm/vllm-openai:v0.32.0
#   docker build --build-arg VLLM_DIGEST=sha256:... --tag refusal-server:0.2.0 .
#
# deploy/docker/Dockerfile.cpu is the same for a CPU.
ARG VLLM_TAG=v0.32.0
# Without a default on purpose: the build stops at FROM until somebody has said which image is meant.
ARG VLLM_DIGEST

FROM vllm/vllm-openai:${VLLM_TAG}@${VLLM_DIGEST} AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE CHANGELOG.md ./
COPY server ./server
COPY steering ./steering
RUN python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM vllm/vllm-openai:${VLLM_TAG}@${VLLM_DIGEST}
LABEL org.opencontainers.image.title="refusal-server" \
      org.opencontainers.image.description="OpenAI-compatible chat server over vLLM that steers refusals" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="Apache-2.0"
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
USER 0
WORKDIR /opt/refusal-server
COPY pyproject.toml ./
COPY deploy/docker/check_packages.py ./
# What vLLM's image lacks of our requirements comes in beside what it holds, never instead of it.
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    python3 check_packages.py --extra gpu --only-extra \
    && python3 check_packages.py --extra gpu --extra fleet --missing > missing.txt \
    && python3 -m pip list --format=freeze --exclude-editable > held.txt \
    && python3 -m pip install --no-cache-dir --constraint held.txt --requirement missing.txt \
    && python3 -m pip install --no-cache-dir --no-deps /wheels/*.whl \
    && python3 check_packages.py --extra gpu --extra fleet \
    && groupadd --gid 10001 refusal \
    && useradd --uid 10001 --gid refusal --home-dir /cache --no-create-home \
        --shell /usr/sbin/nologin refusal \
    && install --directory --owner refusal --group refusal /cache
# Everything that vLLM, Triton and Inductor write goes to the volume: the root may be read-only.
# Health and metrics are on the ops port, which nobody but operators should reach: it wants no key.
ENV HOME=/cache \
    HF_HOME=/cache/huggingface \
    VLLM_CACHE_ROOT=/cache/vllm \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    TRITON_CACHE_DIR=/cache/triton \
    PYTHONUNBUFFERED=1 \
    REFUSAL_SERVER_HOST=0.0.0.0 \
    REFUSAL_SERVER_PORT=8000 \
    REFUSAL_SERVER_OPS_HOST=0.0.0.0 \
    REFUSAL_SERVER_OPS_PORT=9400 \
    REFUSAL_SERVER_LOG_FORMAT=json
VOLUME ["/cache"]
USER 10001:10001
EXPOSE 8000 9400
STOPSIGNAL SIGTERM
# The port is answered once the engine is loaded and its canary has passed, which takes minutes.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20m --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['REFUSAL_SERVER_OPS_PORT']}/live\", timeout=4)"]
ENTRYPOINT ["refusal-server"]
CMD ["--config", "/etc/refusal-server/server.yaml"]
