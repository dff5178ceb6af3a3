#!/bin/sh
# Build the container image $1 with whichever builder is here, and print its size.
# Further arguments go to the builder: --build-arg PYTHON_IMAGE=..., --secret id=pip,src=pip.conf.
set -eu
image=$1 && shift
recipe=deploy/docker/Dockerfile
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)

for builder in podman buildah docker; do
    command -v $builder >/dev/null || continue
    format=
    case $builder in
    docker) docker info >/dev/null 2>&1 || continue ;;  # a client without a daemon builds nothing
    *) format="--format docker" ;;                      # OCI's own format has no health check
    esac
    # shellcheck disable=SC2086 # no word, or two
    $builder build $format --build-arg VERSION="${image##*:}" --build-arg REVISION="$revision" \
        -t "$image" -f $recipe "$@" .
    $builder images "$image"
    exit 0
done
echo "No image builder: install podman, buildah or a running docker, then run make image." >&2
exit 1
