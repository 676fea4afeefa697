#!/bin/sh
# Make certificates to try TLS and mTLS: for an authority (ca.pem), a server (server.pem, server.key) and a client
# (client.pem, client.key). Anyone with these files is trusted. The authority's key is deleted, so it can't sign more.
# In production use certificates of your own authority.
set -eu

if [ $# -lt 1 ] || [ "${1#-}" != "$1" ]; then
    echo "usage: make_certificates.sh FOLDER [NAME...]    NAME: host name or IP address of the server" \
        "(default: localhost 127.0.0.1 triton)" >&2
    exit 2
fi
folder=$1
shift
[ $# -gt 0 ] || set -- localhost 127.0.0.1 triton
days=${DAYS:-30}

command -v openssl > /dev/null || { echo "error: openssl is missing; install it (apt-get install openssl)" >&2; exit 2; }
for file in ca.pem server.pem server.key client.pem client.key; do
    if [ -e "$folder/$file" ]; then
        echo "error: $folder/$file: already exists; remove it or choose another folder" >&2
        exit 2
    fi
done

names=
for name in "$@"; do
    case $name in
        *[!0-9A-Za-z.:*-]* | '' | -*) echo "error: $name: not a host name or IP address" >&2; exit 2 ;;
        *:*) kind=IP ;;
        *[!0-9.]*) kind=DNS ;;
        *) kind=IP ;;
    esac
    names="${names:+$names,}$kind:$name"
done

mkdir -p "$folder"
umask 077
work=$(mktemp -d "$folder/.making.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# Written to a temporary folder first, so a failure leaves nothing behind. openssl prints its own errors.
key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/$1.key"
}
signed() {
    key "$1"
    openssl req -new -key "$work/$1.key" -subj "/CN=$2" -out "$work/$1.csr"
    printf '%s\n' "$3" basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature \
        "extendedKeyUsage=$4" subjectKeyIdentifier=hash authorityKeyIdentifier=keyid > "$work/$1.extensions"
    openssl x509 -req -in "$work/$1.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -days "$days" \
        -set_serial "0x$(openssl rand -hex 8)" -extfile "$work/$1.extensions" -out "$work/$1.pem" 2> "$work/errors" \
        || { cat "$work/errors" >&2; exit 1; }
}

key ca
openssl req -x509 -new -key "$work/ca.key" -days "$days" -subj "/CN=trial authority" -out "$work/ca.pem" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
# Clients check subjectAltName. The subject is fixed, because openssl refuses one of more than 64 characters.
signed server "trial server" "subjectAltName=$names" serverAuth
signed client "trial client" "subjectAltName=DNS:client" clientAuth

chmod 644 "$work/ca.pem" "$work/server.pem" "$work/client.pem"
chmod 600 "$work/server.key" "$work/client.key"
mv "$work/ca.pem" "$work/server.pem" "$work/server.key" "$work/client.pem" "$work/client.key" "$folder"
echo "$folder: ca.pem, server.pem, server.key (for $names), client.pem, client.key; valid for $days days"
