# docker build -t pushd --build-arg PUSHD_COMMIT=$(git rev-parse --short=12 HEAD) .
#
# With --build-arg STOP_SIGNAL=SIGUSR2 a stop is a lame duck: clients are told to come back elsewhere, one
# after the other over drain_timeout, which the stop's own patience must exceed.

FROM denoland/deno:debian-2.9.6 AS build
ARG PUSHD_COMMIT=unknown
WORKDIR /src
COPY deno.json deno.lock ./
COPY scripts scripts
COPY src src
RUN PUSHD_COMMIT="$PUSHD_COMMIT" deno task compile \
  && mv bin/pushd.* /pushd \
  && mkdir /data

# glibc and nothing else: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG STOP_SIGNAL=SIGTERM
COPY --from=build /pushd /usr/local/bin/pushd
COPY --from=build --chown=65532:65532 /data /data
WORKDIR /data
VOLUME /data
# Statistics stay on the container's own loopback unless PUSHD_STATS_LISTEN_ADDR says otherwise.
ENV PUSHD_TCP_LISTEN_ADDR=0.0.0.0:2222
EXPOSE 2222 2223 9020
USER 65532:65532
STOPSIGNAL ${STOP_SIGNAL}
HEALTHCHECK --interval=10s --timeout=9s --start-period=15s --retries=3 \
  CMD ["/usr/local/bin/pushd", "ping"]
ENTRYPOINT ["/usr/local/bin/pushd"]
