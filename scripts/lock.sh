#!/bin/sh
# Resolve pyproject.toml into requirements/*.txt with the hashes of every file on PyPI.
# The resolver lives in a throwaway environment, and the index is named here so that no
# machine's own settings find their way into the files.  UPGRADE=1 takes the newest versions.
set -eu
folder=build/lock
[ -x $folder/bin/uv ] || { sh scripts/make_venv.sh $folder && $folder/bin/pip install -q uv==0.13.8; }

lock() {
    output=$1 && shift
    env -u UV_INDEX -u UV_DEFAULT_INDEX -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
        $folder/bin/uv pip compile --quiet --no-config --system-certs \
        --default-index https://pypi.org/simple ${UPGRADE:+--upgrade} --universal --python-version 3.11 \
        --generate-hashes --no-annotate \
        --custom-compile-command "make lock" --output-file "$output" \
        "$@" pyproject.toml requirements/build.in
    if grep -niE '^ *(torch|nvidia|triton|cuda)|file:|https?:|find-links|index-url' "$output"; then
        echo "$output holds what it must not (above)" >&2
        exit 1
    fi
}

lock requirements/serve.txt --extra openvino --extra redis --extra postgres --extra otlp
lock requirements/dev.txt --extra openvino --extra redis --extra postgres --extra llamacpp --extra onnx \
    --extra otlp-grpc --extra dashboards --extra dev \
    --constraint requirements/serve.txt
# Which build of torch is right is the machine's business (make engines), so it is not locked.
printf 'torch ; python_version < "3"\n' > build/lock/without-torch.txt
lock requirements/transformers.txt --extra transformers --override build/lock/without-torch.txt \
    --constraint requirements/dev.txt
