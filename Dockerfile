# Two stages: a Rust toolchain builds, an image without shell or package manager runs the one binary as nonroot.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin tollgate

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/tollgate /bin/tollgate
COPY --from=build /src/config /etc/tollgate/rules
# The starter rules; mount a folder of your own over them.
ENV TOLLGATE_RULES=/etc/tollgate/rules
# HTTP, gRPC, metrics. The admin listener (6070) stays on the container's loopback.
EXPOSE 8080 8081 9090
ENTRYPOINT ["/bin/tollgate"]
