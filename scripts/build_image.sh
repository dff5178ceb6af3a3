#!/bin/sh
# Build the container image $1 with whichever builder is here, and print its size.
set -eu
image=$1
recipe=deploy/docker/Dockerfile

for builder in podman buildah docker; do
    command -v $builder >/dev/null || continue
    case $builder in
    docker) docker info >/dev/null 2>&1 || continue ;;  # a client without a daemon builds nothing
    esac
    $builder build -t "$image" -f $recipe .
    $builder images "$image"
    exit 0
done
echo "No image builder: install podman, buildah or a running docker, then run make image." >&2
exit 1
