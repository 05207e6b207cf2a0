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
compose() { # with the files of OVERLAY laid over
  "${COMPOSE[@]}" -p captioncheck -f "$PROJECT/docker-compose.yml" ${OVERLAY:+-f "$OVERLAY"} --profile "${PROFILE-trainer}" "$@"
}
ask() { "${NET[@]}" curl -fsS --noproxy '*' -m 20 "$@"; }
equal() { if [ "$2" = "$3" ]; then say "$1: $2"; else fail "$1 is '$2', not '$3'"; fi; }
inside() { compose exec -T service "$@"; }
state() { docker inspect -f "{{.State.$1}}" captioncheck-service-1; }
wait_until() { # wait_until SECONDS WHAT COMMAND...
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" > /dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || fail "$what"
    sleep 0.5
  done
}

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
  say "built $1: $(($(size_of "image-caption-$1:$TAG") / 1000000)) MB, of which the base is $(($(size_of "$BASE") / 1000000))"
}

size_of() { docker image inspect -f '{{.Size}}' "$1"; }

check_image() {
  local run=(docker run --rm --network none "image-caption-service:$TAG")
  equal "uid of the image" "$("${run[@]}" id -u)" 10001
  equal "what it carries" "$("${run[@]}" sh -c 'ls -d /app/*/ | xargs -n1 basename | tr "\n" " "')" \
    "image_caption_service.dist-info service shared "
  equal "files that cannot be read" "$("${run[@]}" find /app ! -readable)" ""
  equal "torch" "$("${run[@]}" python -c 'import importlib.util as i; print(i.find_spec("torch"))')" None
  [ $(($(size_of "image-caption-service:$TAG") - $(size_of "$BASE"))) -lt 450000000 ] || fail "more than 450 MB beyond the base"
  "${run[@]}" cat /usr/share/sbom/sbom.cdx.json > "$WORK/sbom.json"
  equal "packages that are installed but not in the bill of materials" "$(comm -23 \
    <("${run[@]}" python -c 'from importlib.metadata import distributions as d; [print(x.name) for x in d(path=["/venv/lib/python3.11/site-packages"])]' \
      | tr A-Z_. a-z-- | sort) \
    <(python3 -c 'import json, sys; [print(c["name"]) for c in json.load(sys.stdin)["components"]]' < "$WORK/sbom.json" \
      | tr A-Z_. a-z-- | sort))" ""
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

check_stop() { # while a client still sends its picture
  cat "$GOLDEN" <(head -c 500000 /dev/zero) > "$WORK/long.png"
  ask --limit-rate 100k -o /dev/null -w '%{http_code}' -F "file=@$WORK/long.png" "$URL/caption" > "$WORK/slow.code" &
  local client=$!
  sleep 1
  compose stop > /dev/null 2>&1
  wait "$client" || true
  equal "answer to a picture that was on its way at SIGTERM" "$(cat "$WORK/slow.code")" 200
  equal "exit code at SIGTERM" "$(state ExitCode)" 0
}

check_memory() { # pictures that unfold to more than the limit
  PROFILE='' MEMORY=640m compose up -d --no-build --wait > /dev/null 2>&1 || fail "compose up with little memory"
  docker run --rm --network none --user 0 -v "$WORK:/work" "image-caption-service:$TAG" \
    python -c 'from PIL import Image; Image.effect_noise((7000, 7000), 1).convert("RGB").save("/work/large.webp", quality=1)'
  local since clients=()
  since=$(date +%s)
  for _ in $(seq 8); do
    ask -o /dev/null -F "file=@$WORK/large.webp" "$URL/caption" 2> /dev/null &
    clients+=($!)
  done
  wait "${clients[@]}" || true
  wait_until 60 "no restart" has_restarted
  equal "exit code beyond the memory limit" "$(docker events --since "$since" --until "$(($(date +%s) + 1))" \
    --filter container=captioncheck-service-1 --filter event=die --format '{{.Actor.Attributes.exitCode}}' | sort -u)" 137
  wait_until 60 "not ready after a restart" ask "$URL/readyz"
  say "caption after a restart: $(ask -F "file=@$GOLDEN" "$URL/caption")"
}

has_restarted() { [ "$(docker inspect -f '{{.RestartCount}}' captioncheck-service-1)" -gt 0 ]; }

check_operators_port() { # where the image's own health check must ask then
  docker run -d --name captioncheck-operated -e CAPTION_ADMIN_PORT=8001 "image-caption-service:$TAG" > /dev/null
  wait_until 60 "no health with a port for operators" is_healthy captioncheck-operated
  docker rm -f captioncheck-operated > /dev/null
  say "healthy with a port for operators"
}

is_healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$1")" = healthy ]; }

check_failed_trainer() { # any image without a trainer will do
  [ -n "${TRAINER:-}" ] || docker tag "image-caption-service:$TAG" "image-caption-trainer:$TAG"
  mkdir -p "$DATA"
  compose down -v > /dev/null 2>&1
  if PRESET=no-such-preset OVERLAY=$HERE/required.yml compose up -d --no-build > "$WORK/required.log" 2>&1; then
    fail "compose up came back in spite of a trainer that failed"
  fi
  equal "a service that requires a trainer which failed" "$(state Status)" created
  compose down -v > /dev/null 2>&1
  PRESET=no-such-preset compose up -d --no-build --wait service > "$WORK/optional.log" 2>&1 || true
  wait_until 60 "not ready behind a trainer that failed" ask "$URL/readyz"
  equal "source of the model behind a trainer that failed" "$(model_source)" embedded
}

check_volume() { # made by the service, which may not write; the trainer runs as the same user and must be able to
  docker run --rm --network none -v captioncheck_models:/models "image-caption-service:$TAG" touch /models/.trial
  say "the trainer's user can write into the volume"
}

check_trainer() {
  docker run --rm --network none --user 0 -v "$WORK:/work" --entrypoint install "image-caption-trainer:$TAG" -d -o 10001 /work/data
  docker run --rm --network none -v "$WORK/data:/data" "image-caption-trainer:$TAG" draw /data

  PROFILE='' compose up -d --no-build --wait > /dev/null 2>&1
  compose run --rm -T trainer > "$WORK/trainer.log" 2>&1 || { tail "$WORK/trainer.log" >&2; fail "trainer"; }
  sleep 10
  equal "source of the model of a service that ran meanwhile" "$(model_source)" volume

  # In a new volume, so that the first answer shows what was waited for.
  compose down -v > /dev/null 2>&1
  OVERLAY=$HERE/required.yml compose up -d --no-build > /dev/null 2>&1 || fail "compose up with the trainer"
  wait_until 60 "not ready behind the trainer" ask "$URL/readyz"
  equal "source of the model behind the trainer" "$(model_source)" volume
  say "caption: $(ask -F "file=@$GOLDEN" "$URL/caption")"
}

engine building
build service
[ -z "${TRAINER:-}" ] || build trainer
engine running
check_image
check_service
check_stop
check_volume
check_memory
check_operators_port
check_failed_trainer
[ -z "${TRAINER:-}" ] || check_trainer
say "all of it works"
