#!/bin/sh
# Makes certificate.pem and key.pem beside it: a self-signed certificate of this machine. It is valid for a
# hundred years, so that its age is never what it is refused for.
set -eu
cd "$(dirname "$0")"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -sha256 -days 36500 -nodes \
    -keyout key.pem -out certificate.pem -subj "/CN=localhost" \
    -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" -addext "basicConstraints=critical,CA:FALSE"
