# syntax=docker/dockerfile:1
# The binary in a small image that runs as an ordinary user. Build: docker build -t pipeline .
# Train:  docker run --rm -v "$PWD:/data" pipeline run
# Serve:  docker run --rm -v "$PWD:/data" -p 8080:8080 pipeline serve latest --host 0.0.0.0

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --profile dist --locked --package pipeline

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git libvulkan1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 pipeline
COPY --from=build /source/target/dist/pipeline /usr/local/bin/pipeline
USER pipeline
WORKDIR /data
EXPOSE 8080
ENTRYPOINT ["pipeline"]
CMD ["help"]
