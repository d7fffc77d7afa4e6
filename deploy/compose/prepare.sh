#!/bin/sh
# Make .env and secrets/ with new secrets, unless they are there: a password, a token, and a certificate of our own.
set -eu
cd "$(dirname "$0")"
umask 077
if [ ! -e .env ]; then
    sed -e "s/^POSTGRES_PASSWORD=$/&$(openssl rand -hex 24)/" \
        -e "s/^FOUNDRY_TOKEN=$/&$(openssl rand -hex 24)/" .env.example >.env
fi
mkdir -p secrets
if [ ! -e secrets/tokens ]; then
    sed -n 's/^FOUNDRY_TOKEN=\(.*\)$/"Bearer \1" 1;/p' .env >secrets/tokens
fi
if [ ! -e secrets/tls_key ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 397 -subj "/CN=nginx" \
        -addext "subjectAltName=DNS:nginx" -addext "keyUsage=critical,digitalSignature,keyCertSign" \
        -keyout secrets/tls_key -out secrets/tls_certificate 2>/dev/null
fi
# Compose mounts these files as they are, and no service is root: its user has to read them. On the host, the directory
# keeps other users out.
chmod 644 secrets/*
