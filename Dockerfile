# Two stages: a Rust toolchain builds, an image without shell or package manager runs the one binary as nobody.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# aws-iam for tokens of AWS IAM as Redis' password: docker build --build-arg FEATURES=aws-iam .
ARG FEATURES=
RUN cargo build --release --locked --bin tollgate --features "$FEATURES"
# The names of envoyproxy/ratelimit's commands, which deployments call: the binary heeds the name that it is called by.
RUN mkdir -p /image/bin && cp target/release/tollgate /image/bin/ && cd /image/bin \
    && for name in ratelimit ratelimit_client ratelimit_config_check; do ln -s tollgate "$name"; done

FROM gcr.io/distroless/cc-debian12
COPY --from=build /image/bin/ /bin/
# The starter rules, found as ./config: no variable names them, for it would beat the RUNTIME_* of those who bring theirs.
COPY --from=build /src/config /etc/tollgate/config
WORKDIR /etc/tollgate
# nobody, as a number: Kubernetes' runAsNonRoot can't look names up.
USER 65534:65534
# HTTP, gRPC, metrics. The admin listener (6070) stays on the container's loopback.
EXPOSE 8080 8081 9090
ENTRYPOINT ["/bin/tollgate"]
