#!/usr/bin/env bash
# Trains on a Cloud TPU slice of several hosts, over preemptions.
usage() {
  cat <<'TEXT'
usage: launch/tpu_pod.sh [--dry-run] COMMAND [arguments of alphaecoli.train]

  create     ask for a queued resource of TPU VMs
  wait       until it is there
  install    copy this commit to every worker, mount the shared disk, install
  run        start training on every worker, in the background
  logs       follow worker 0
  status     state of the queued resource, exit status of every worker
  stop       SIGTERM: save and end
  keep       all of it: create, wait, install, run; after a preemption again; until the run is finished
  delete     give the TPUs back

Before create, whether the step fits the chips: python -m alphaecoli.benchmark compile --plan
  --config configs/pod.py --topology v5e:4x8   (docs/launch.md)

For TPU VMs that exist already: install, run, logs, status and stop.

environment:
  TPU_NAME ZONE       required
  ACCELERATOR_TYPE    as v5litepod-32, v6e-16, v5p-32; required by create
  RUNTIME_VERSION     default: the one for JAX on that accelerator
  SPOT=1              preemptible and cheap
  PROJECT             default: gcloud's
  NFS                 as 10.0.0.2:/share, mounted at /mnt/alphaecoli on every worker
  CONFIG WORKDIR      default: configs/pod.py /mnt/alphaecoli/runs/pod; WORKDIR may be gs://BUCKET/PATH,
                      which the workers' service account writes to, and needs no NFS
  POLL_SECONDS        default: 60
TEXT
}
# See docs.cloud.google.com: "Manage queued resources" (tpu/docs/queued-resources), "Manage TPU
# Spot VMs" (tpu/docs/spot), "Run JAX code on TPU slices" (tpu/docs/jax-pods), "TPU software versions"
# (tpu/docs/runtimes), "Using an NFS for data storage" (tpu/docs/storage-options), the references of gcloud compute tpus
# queued-resources and tpu-vm; docs.astral.sh/uv, "Installation". TPU7x has no queued resources: launch/gke.yaml.
set -euo pipefail
cd "$(dirname "$0")/.."

dry=
if [ "${1:-}" = --dry-run ]; then
  dry=1
  shift
fi
command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
  create | wait | install | run | logs | status | stop | keep | delete) ;;
  help | -h | --help)
    usage
    exit 0
    ;;
  *)
    echo "error: unknown command $command; see launch/tpu_pod.sh help" >&2
    exit 2
    ;;
esac
for name in TPU_NAME ZONE; do
  if [ -z "${!name:-}" ]; then
    echo "error: $name is not set; see launch/tpu_pod.sh help" >&2
    exit 2
  fi
done

where=(--zone="$ZONE" ${PROJECT:+--project="$PROJECT"})
workdir=${WORKDIR:-/mnt/alphaecoli/runs/pod}
home=alphaecoli # on the workers, below the home directory

run() {
  if [ -n "$dry" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

on_workers() { # workers, command
  run gcloud compute tpus tpu-vm ssh "$TPU_NAME" "${where[@]}" --worker="$1" --command="$2"
}

runtime_version() {
  case $ACCELERATOR_TYPE in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v2-* | v3-* | v4-*) echo tpu-ubuntu2204-base ;;
    *)
      echo "error: ACCELERATOR_TYPE=$ACCELERATOR_TYPE is not known; set RUNTIME_VERSION" >&2
      return 2
      ;;
  esac
}

create() {
  if [ -z "${ACCELERATOR_TYPE:-}" ]; then
    echo "error: ACCELERATOR_TYPE is not set, as v5litepod-32; see launch/tpu_pod.sh help" >&2
    exit 2
  fi
  local version
  version=${RUNTIME_VERSION:-$(runtime_version)}
  run gcloud compute tpus queued-resources create "$TPU_NAME" "${where[@]}" --node-id="$TPU_NAME" \
    --accelerator-type="$ACCELERATOR_TYPE" --runtime-version="$version" ${SPOT:+--spot}
}

state() { # of the queued resource, empty where there is none
  run gcloud compute tpus queued-resources describe "$TPU_NAME" "${where[@]}" --format='value(state.state)'
}

wait_until_active() {
  local now
  if [ -n "$dry" ]; then
    state
    return
  fi
  while now=$(state) && [ "$now" != ACTIVE ]; do
    case $now in
      FAILED | SUSPENDING | SUSPENDED)
        echo "error: queued resource $TPU_NAME is $now; delete it and create it again" >&2
        return 1
        ;;
    esac
    echo "$(date +%T) $TPU_NAME: $now"
    sleep "${POLL_SECONDS:-60}"
  done
  [ "$now" = ACTIVE ]
}

install() {
  local archive mount='' extras=tpu
  [[ $workdir != gs://* ]] || extras=tpu,gcs
  archive=alphaecoli.tar.gz
  [ -n "$dry" ] || archive=$(mktemp -d)/alphaecoli.tar.gz
  if [ -n "${NFS:-}" ]; then
    mount="sudo apt-get -y -qq install nfs-common
    sudo mkdir -p /mnt/alphaecoli
    mountpoint -q /mnt/alphaecoli || sudo mount -t nfs '$NFS' /mnt/alphaecoli
    sudo chmod a+rwx /mnt/alphaecoli"
  fi
  # The images have Python 3.10: uv brings its own. Huge pages: JAX asks for them on v5e and newer.
  run git archive --format=tar.gz --output="$archive" HEAD &&
    run gcloud compute tpus tpu-vm scp "$archive" "$TPU_NAME:alphaecoli.tar.gz" "${where[@]}" --worker=all &&
    on_workers all "set -e
    $mount
    sudo sh -c 'echo always > /sys/kernel/mm/transparent_hugepage/enabled'
    mkdir -p $home
    tar -xzf alphaecoli.tar.gz -C $home
    cd $home
    [ -x ~/.local/bin/uv ] || curl -LsSf https://astral.sh/uv/install.sh | sh
    [ -x .venv/bin/python ] || ~/.local/bin/uv venv --python 3.12 .venv
    ~/.local/bin/uv pip install --quiet --python .venv/bin/python -e '.[$extras]'"
}

start() { # arguments of the training command
  local training script
  training=$(printf '%q ' .venv/bin/python -m alphaecoli.train \
    --config "${CONFIG:-configs/pod.py}" --workdir "$workdir" "$@")
  script="${training}& echo \$! > train.pid; wait \$!; echo \$? > exit_status"
  # Detached, because the run must outlive the connection. JAX finds the other workers by itself.
  on_workers all "cd $home || exit 1
    rm -f exit_status
    setsid nohup bash -c $(printf '%q' "$script") >> train.log 2>&1 < /dev/null &"
}

exit_statuses() {
  on_workers all "cat $home/exit_status 2>/dev/null || echo running"
}

delete() {
  run gcloud compute tpus queued-resources delete "$TPU_NAME" "${where[@]}" --force --quiet
}

finished() { # 0 finished, 75 to be started again, 1 failed, 3 running
  local found
  found=$(exit_statuses 2>/dev/null | grep -E '^(running|[0-9]+)$' | sort -u) || return 3
  case $found in
    0) return 0 ;;
    75) return 75 ;;
    *running*) return 3 ;;
    *) return 1 ;;
  esac
}

again() {
  wait_until_active && install && start "$@"
}

keep() {
  local now status=0
  if [ -n "$dry" ]; then
    state && create && again "$@" && exit_statuses
    echo "# where a preemption has taken the TPUs (SUSPENDED), every $((${POLL_SECONDS:-60})) s:"
    delete && create && again "$@"
    return
  fi
  now=$(state 2>/dev/null || true)
  [ -n "$now" ] || create
  case $now in SUSPEND* | FAILED) delete && create ;; esac
  again "$@"
  while sleep "${POLL_SECONDS:-60}"; do
    now=$(state) || continue # gcloud could not be reached: ask again
    case $now in
      SUSPENDING) continue ;;
      SUSPENDED | FAILED)
        echo "$(date +%T) $TPU_NAME was preempted: asking again"
        delete && create && again "$@"
        continue
        ;;
    esac
    status=0
    finished || status=$?
    case $status in
      0) echo "finished: $workdir" && return 0 ;;
      75) start "$@" ;;
      1) echo "error: the run failed; see launch/tpu_pod.sh logs" >&2 && return 1 ;;
    esac
  done
}

case $command in
  create) create ;;
  wait) wait_until_active ;;
  install) install ;;
  run) start "$@" ;;
  logs) on_workers 0 "tail -n 100 -F $home/train.log" ;;
  status)
    state || true
    exit_statuses
    ;;
  stop) on_workers all "kill -TERM \$(cat $home/train.pid)" ;;
  keep) keep "$@" ;;
  delete) delete ;;
esac
