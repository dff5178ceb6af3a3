#!/bin/sh
# Put the index template, and on Elasticsearch the life-cycle policy, before the first line comes.
# Usage: apply.sh [URL]     (http://127.0.0.1:9200)
# CURL_OPTIONS may hold --cacert or --netrc-file; a password on a command line is seen by everybody.
set -eu
url=${1:-http://127.0.0.1:9200}
here=$(dirname "$0")

ask() {
    # shellcheck disable=SC2086 -- options are several words
    curl -sS --fail-with-body ${CURL_OPTIONS:-} "$@"
}

put() {
    ask -X PUT "$url/$1" -H 'Content-Type: application/json' --data-binary "@$here/$2"
    echo " $1"
}

version=$(ask "$url/")
case $version in
*opensearch*) # it has a life-cycle of another kind (ISM)
    put _component_template/model-api-logs-lifecycle no-lifecycle.json
    ;;
*)
    put _ilm/policy/model-api-logs ilm-policy.json
    put _component_template/model-api-logs-lifecycle lifecycle.json
    ;;
esac
put _index_template/model-api-logs index-template.json
