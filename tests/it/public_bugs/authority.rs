//! Connections and streams that HTTP/2 or gRPC would refuse before the service sees the request.
