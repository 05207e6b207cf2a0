#!/usr/bin/env bash
# Builds the images and brings docker-compose.yml up with a Docker Engine, and asks what only that can answer.
#
#   tests/containers/check.sh WORK        an engine that answers is used; else one is unpacked into the folder WORK (as root)
#   TRAINER=1 tests/containers/check.sh WORK      with the trainer: gigabytes of torch, a drawn data set, a published model
set -euo pipefail
mkdir -p "$1"
WORK=$(realpath "$1")
HERE=$(dirname "$(realpath "$0")")
PROJECT=$(realpath "$HERE/../..")
GOLDEN=$PROJECT/service/default_model/golden.png
export TAG=check PORT=${PORT:-8000} DATA=$WORK/data PRESET=tiny
URL=http://127.0.0.1:$PORT

say() { echo "[${SECONDS}s] $*"; }
fail() { echo "FAILED: $*" >&2; compose logs --tail 20 >&2 || true; exit 1; }
compose() { "${COMPOSE[@]}" -p captioncheck -f "$PROJECT/docker-compose.yml" --profile "${PROFILE-trainer}" "$@"; }
ask() { "${NET[@]}" curl -fsS --noproxy '*' -m 20 "$@"; }
equal() { if [ "$2" = "$3" ]; then say "$1: $2"; else fail "$1 is '$2', not '$3'"; fi; }
inside() { compose exec -T service "$@"; }

if docker info > /dev/null 2>&1 && docker compose version > /dev/null 2>&1; then
  COMPOSE=(docker compose) NET=() BUILD=()
  engine() { :; }
  trap 'compose down -v > /dev/null 2>&1 || true' EXIT
else
  # shellcheck source=tests/containers/engine.sh
  . "$HERE/engine.sh"
  trap 'compose down -v > /dev/null 2>&1 || true; engine_remove' EXIT
  engine_prepare
fi

build() { # build NAME
  # shellcheck disable=SC2086
  docker build -q "${BUILD[@]}" ${BUILD_ARGS:-} -t "image-caption-$1:$TAG" -f "$PROJECT/Dockerfile.$1" "$PROJECT" > /dev/null
  say "built $1: $(docker image inspect -f '{{.Size}}' "image-caption-$1:$TAG") bytes"
}

check_image() {
  local run=(docker run --rm --network none "image-caption-service:$TAG")
  equal "uid of the image" "$("${run[@]}" id -u)" 10001
  equal "what it carries" "$("${run[@]}" sh -c 'ls -d /app/*/ | xargs -n1 basename | tr "\n" " "')" \
    "image_caption_service.dist-info service shared "
  equal "files that cannot be read" "$("${run[@]}" find /app ! -readable)" ""
  equal "torch" "$("${run[@]}" python -c 'import importlib.util as i; print(i.find_spec("torch"))')" None
}

check_service() { # the trainer's profile is off, so nothing is waited for
  compose down -v > /dev/null 2>&1
  PROFILE='' compose up -d --no-build --wait --wait-timeout 180 > "$WORK/up.log" 2>&1 || { cat "$WORK/up.log" >&2; fail "compose up"; }
  equal "readyz" "$(ask "$URL/readyz")" '{"status":"ok"}'
  equal "source of the model" "$(model_source)" embedded
  say "caption: $(ask -F "file=@$GOLDEN" "$URL/caption")"
  equal "uid" "$(inside id -u)" 10001
  equal "capabilities" "$(inside sh -c 'grep CapEff /proc/1/status | cut -f2')" 0000000000000000
  equal "writable root or volume" "$(inside sh -c 'touch /app/x || touch /models/x || echo none' 2> /dev/null)" none
  inside touch /tmp/x
  say "memory: $(docker stats --no-stream --format '{{.MemUsage}}' captioncheck-service-1)"
}

model_source() { ask "$URL/model" | python3 -c 'import json, sys; print(json.load(sys.stdin)["source"])'; }

check_stop() {
  compose stop > /dev/null 2>&1
  equal "exit code at SIGTERM" "$(docker inspect -f '{{.State.ExitCode}}' captioncheck-service-1)" 0
}

check_volume() { # made by the service, which may not write; the trainer runs as the same user and must be able to
  docker run --rm --network none -v captioncheck_models:/models "image-caption-service:$TAG" touch /models/.trial
  say "the trainer's user can write into the volume"
}

check_trainer() {
  docker run --rm --network none --user 0 -v "$WORK:/work" --entrypoint install "image-caption-trainer:$TAG" -d -o 10001 /work/data
  docker run --rm --network none -v "$WORK/data:/data" "image-caption-trainer:$TAG" draw /data

  compose up -d --no-build --wait service > /dev/null 2>&1
  compose run --rm -T trainer > "$WORK/trainer.log" 2>&1 || { tail "$WORK/trainer.log" >&2; fail "trainer"; }
  sleep 10
  equal "source of the model of a service that ran meanwhile" "$(model_source)" volume

  behind_trainer tiny
  equal "source of the model behind the trainer" "$(model_source)" volume
  say "caption: $(ask -F "file=@$GOLDEN" "$URL/caption")"
  behind_trainer no-such-preset
  equal "source of the model behind a trainer that failed" "$(model_source)" embedded
}

behind_trainer() { # behind_trainer PRESET: in a new volume, so that the first answer shows what was waited for
  compose down -v > /dev/null 2>&1
  PRESET=$1 compose up -d --no-build > /dev/null 2>&1 || fail "compose up with the trainer"
  for _ in $(seq 60); do ask "$URL/readyz" > /dev/null 2>&1 && break; sleep 1; done
}

engine building
build service
[ -z "${TRAINER:-}" ] || build trainer
engine running
check_image
check_service
check_stop
check_volume
[ -z "${TRAINER:-}" ] || check_trainer
say "all of it works"
