#!/usr/bin/env bash
# Make a substitute for the official image python:3.11, for machines that can't reach an image registry: Debian bookworm
# with Debian's Python 3.11, at the paths of the official image. The result is in buildah's local store.
#
#     docker/proof/make_base_image.sh NAME
#
# Needs root, debootstrap and buildah.
set -euo pipefail

name=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$folder/root

debootstrap --variant=minbase --include=ca-certificates bookworm "$root"
# With apt, because debootstrap does not resolve the virtual packages that these depend on.
cp /etc/resolv.conf "$root/etc/resolv.conf"
chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	python3.11-venv libpython3.11
# As in the official image, no documentation and no package lists.
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/* "$root"/usr/share/{doc,man,info,locale}/* \
	"$root"/var/log/* "$root/etc/resolv.conf"
for program in python3 python; do
	ln -s /usr/bin/python3.11 "$root/usr/local/bin/$program"
done

container=$(buildah from scratch)
buildah copy -q "$container" "$root" / > /dev/null
buildah config --env PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin --cmd python3 "$container"
buildah commit -q --rm "$container" "$name" > /dev/null
