#!/usr/bin/env bash
# Build the images server-cpu and client without Docker, run them with compose.yaml, and measure:
#
#     docker/proof/prove_images.sh REPOSITORY MODEL [FOLDER]
#     docker/proof/prove_images.sh export MODEL [FOLDER]
#
# With `export` the image export is built too, which takes gigabytes and minutes. It exports demo/MODEL.nemo.
#
# Uses buildah and podman, as root, with a separate image store in FOLDER (build/image_proof). If the base image can't be
# pulled, make_base_image.sh makes one. Needs Debian's buildah, podman, runc, netavark, aardvark-dns and debootstrap, and
# podman-compose in PATH.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
repository=$1
model=$2
folder=$(realpath -m "${3:-$root/build/image_proof}")
limit=500000000
mkdir -p "$folder"

# Settings that need no overlay file system, no systemd and no right to raise limits.
cat > "$folder/storage.conf" << END
[storage]
driver = "vfs"
graphroot = "$folder/storage"
runroot = "$folder/run"
END
cat > "$folder/containers.conf" << END
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "$folder/networks"
END
export CONTAINERS_STORAGE_CONF=$folder/storage.conf CONTAINERS_CONF=$folder/containers.conf

step() { printf '\n== %s\n' "$*"; }
files=(--file "$root/docker/compose.yaml")
compose() { podman-compose "${files[@]}" --profile cpu --profile bench "$@"; }
server=nemo-triton_server-cpu_1
second=nemo-triton_second
export GRPC_PORT=${GRPC_PORT:-38001} CERTIFICATES=$folder/certificates
up() {
	compose up -d server-cpu > "$folder/up.log" 2>&1 || { cat "$folder/up.log" >&2; exit 1; }
	healthy "$server"
}
healthy() {
	for _ in $(seq 120); do
		podman healthcheck run "$1" > /dev/null 2>&1 && break
		sleep 1
	done
	podman healthcheck run "$1" || { podman logs "$1" >&2; exit 1; }
	echo "healthy"
}
client() { compose run --rm -T bench "$@" 2> "$folder/run.log" || { cat "$folder/run.log" >&2; exit 1; }; }
down() {
	podman rm -f -t 0 "$second" > /dev/null 2>&1 || true
	compose down > /dev/null 2>&1 || true
}

base=$(sed -n 's/^ARG PYTHON_IMAGE=//p' "$root/docker/server-cpu.Dockerfile")
step "base image $base"
if ! podman image exists "docker.io/library/$base"; then
	if buildah pull -q "docker.io/library/$base" 2> /dev/null; then
		echo "pulled"
	else
		"$root/docker/proof/make_base_image.sh" "docker.io/library/$base" > "$folder/base.log" 2>&1
		echo "made with debootstrap, with Debian's Python 3.11 instead of the official image's"
	fi
fi

# The builds need this machine's pip configuration, and the folders that it names.
volumes=()
for path in /etc/pip.conf ~/.config/pip/pip.conf /etc/ssl/certs \
	$(python3 -m pip config list | grep -oE "(file://)?/[^ '\\]+" | sed -e 's,^file://,,' | cut -d/ -f1-3 | sort -u); do
	if [ -e "$path" ] && [[ " ${volumes[*]} " != *" $path:"* ]]; then
		volumes+=(--volume "$path:$path:ro")
	fi
done

images=(server-cpu client)
[ "$repository" != export ] || images=(export "${images[@]}")
for image in "${images[@]}"; do
	step "build $image"
	buildah build -q --isolation chroot --format docker "${volumes[@]}" \
		--file "$root/docker/$image.Dockerfile" --tag "localhost/nemo-triton-$image:0.1.0" "$root" \
		2> "$folder/$image.log" || { cat "$folder/$image.log" >&2; exit 1; }
done

step "sizes, before weights"
podman image prune -f > /dev/null
podman images --format '{{.Repository}}:{{.Tag}}	{{.Size}}' | sort
size=$(podman image inspect --format '{{.Size}}' localhost/nemo-triton-server-cpu:0.1.0)
[ "$size" -le "$limit" ] || { echo "error: image server-cpu is too large: $size bytes, limit $limit" >&2; exit 1; }

step "serve with compose.yaml, the repository read-only"
down
podman volume rm -f nemo-triton_models > /dev/null 2>&1 || true
trap 'down; podman volume rm -f nemo-triton_models > /dev/null' EXIT
if [ "$repository" = export ]; then
	CHECKPOINT=$model.nemo compose --profile export run --rm -T export 2> "$folder/run.log" \
		|| { cat "$folder/run.log" >&2; exit 1; }
else
	podman volume create nemo-triton_models > /dev/null
	tar -C "$repository" --dereference -c . | podman volume import nemo-triton_models -
fi
up

step "rights of the server"
podman exec "$server" sh -c 'id -u; grep -E "^(CapEff|NoNewPrivs)" /proc/1/status
	for path in /models/x /opt/nemo-triton/x; do
		if touch "$path" 2> /dev/null; then echo "error: $path is writable"; exit 1; fi
	done
	echo "repository and image are read-only"'

step "transcribe and measure with the client's image"
client nemo_triton.commands.transcribe --url server:8001 --model "$model" /data/0000_awb.flac
client nemo_triton.commands.bench --url server:8001 --metrics-url http://server:8002/metrics --model "$model" --duration 10

step "two servers under one name: bench.py balances over both"
network=$(podman inspect --format '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}' "$server")
podman run -d --name "$second" --network "$network" --network-alias server --shm-size 1g \
	--volume nemo-triton_models:/models:ro localhost/nemo-triton-server-cpu:0.1.0 > /dev/null 2>> "$folder/up.log"
healthy "$second"
client nemo_triton.commands.bench --url server:8001 --model "$model" --duration 10
down

step "mTLS with compose.tls.yaml"
rm -rf "$CERTIFICATES"
"$root/docker/tls/make_certificates.sh" "$CERTIFICATES" server
chown 1000 "$CERTIFICATES"/*.key
files+=(--file "$root/docker/compose.tls.yaml")
export MUTUAL=true
up
client nemo_triton.commands.transcribe --url server:8001 --ca /tls/ca.pem --certificate /tls/client.pem --key /tls/client.key \
	--model "$model" /data/0000_awb.flac
if compose run --rm -T bench nemo_triton.commands.transcribe --url server:8001 --ca /tls/ca.pem --model "$model" /data/0000_awb.flac \
	> "$folder/run.log" 2>&1; then
	echo "error: a client without a certificate was accepted" >&2
	exit 1
fi
grep "^error" "$folder/run.log"
