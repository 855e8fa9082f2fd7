# syntax=docker/dockerfile:1
# The binary in a small image that runs as an ordinary user. Build: docker build -t pipeline .
# Train:  docker run --rm -v "$PWD:/data" pipeline run
# Serve:  docker run --rm -v "$PWD:/data" -p 8080:8080 pipeline serve latest --host 0.0.0.0 --keys keys.jsonl

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --profile dist --locked --package pipeline

FROM debian:bookworm-slim
# The newest versions have the security updates.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git libvulkan1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 pipeline
COPY --from=build /source/target/dist/pipeline /usr/local/bin/pipeline
USER 1000
WORKDIR /data
EXPOSE 8080
# Of a server; other commands end before the first check.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["pipeline", "serve", "--check", "--host", "127.0.0.1", "--port", "8080"]
ENTRYPOINT ["pipeline"]
CMD ["help"]
