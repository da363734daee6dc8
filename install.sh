#!/usr/bin/env bash
# Installs Customhouse on this system as services (systemd/install/system.sh), or sets it up inside this checkout, for a
# trial or for its tests: then no root, no systemd, everything it makes under .customhouse/. Interrupted at any point it
# can simply be run again; what is done is not done twice.
#
# Dependencies come from the package index that pip is configured for. Nothing here names an address, and what pip
# prints passes through without_addresses, because a private index may carry a password in its address.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=$root # what the command runs from

command=install # install | try | test
device=auto     # auto | cpu | cuda
asked_device=auto
is_testing=no
is_gpu_seen=no
dry_run=no
models=()
demo_args=()
python=
wheel= # the llama-cpp-python to install

is_user=no # the system's installation: its options
is_starting=yes
is_forced=no
is_uninstalling=no
is_purging=no
is_yes=no
prefix=
bundle=
signers=${CUSTOMHOUSE_SIGNERS-}

place_under() { # place_under FOLDER: all that is made, but for what the system's installation puts elsewhere
  state=$1      # environment, wheels, weights, database: deleting .customhouse undoes everything
  venv=$state/venv
  wheels=$state/wheels
  build=$state/build # only while llama-cpp-python compiles
  logs=$state/logs
  stamps=$state/stamps
  oracle=$state/oracle   # localstripe, for the tests
  litellm=$state/litellm # LiteLLM, for the tests
  node=$state/node       # the official Node clients, for the tests
}

usage() {
  cat <<'EOF'
usage: sudo ./install.sh [OPTION…]          install on this system, as services; on an installed one: upgrade
       ./install.sh --user [OPTION…]        the same for yourself, without root
       ./install.sh [OPTION…] try | test    set up in this folder only

  install (what is done without a command)
        Look at the machine as the doctor does, make the user, the folders, the environment, the settings and the units,
        fetch the starter weights, start the services and show the first keys. Run again it changes nothing. From a newer
        version's folder it upgrades: a backup first, and back by itself if the new version is not well.
        --user         for yourself: no root, services of your own, below ~/.local/share/customhouse
        --prefix DIR   the program's folder (default /opt/customhouse)
        --bundle FILE  take all from a bundle, without any network
        --signers FILE only if one of these (ssh-keygen's allowed_signers) has signed the bundle
        --models NAME[,NAME…]   also fetch these models
        --no-start     start nothing: for a chroot, or an image
        --force        although the doctor found what failed
        --uninstall    remove services and program; settings, database and weights stay
        --uninstall --purge [--yes]   remove those, too; a word has to be typed, or --yes given

  try [--keep] [--port N] [--models NAME[,NAME…]] [--bundle FILE [--signers FILE]]
        Set up, fetch the starter weights, start Customhouse, screen real prompts, photographs and a video through its
        HTTP API and print the table. Exit code 0 only if every verdict came back.
        --keep     leave it running; prints the address, a key and a curl line
        --port N   the API's port (default 8000, or a free one when that is taken)
        --models   also fetch these models (see: .customhouse/venv/bin/customhouse models list)
        --bundle   take all from a bundle, without any network

  test [ARGUMENT…]
        Set up, with the tools of the tests, and run all of them. Arguments go on to python -m tests, and from there to
        pytest (-k webhook); --fix formats, --golden rewrites the golden files.

  --cpu, --cuda   do not detect the GPU but use the CPU, or CUDA
  --dry-run       print what would be done, and do nothing

try and test make everything under .customhouse/ in this folder, and take settings from CUSTOMHOUSE_… variables.
  CUSTOMHOUSE_WHEELS   a folder with a wheel of llama-cpp-python built for machines like this one: it is not compiled
                       (sudo hands it on when it stands behind it: sudo CUSTOMHOUSE_WHEELS=DIR ./install.sh)
EOF
}

main() {
  place_under "$root/.customhouse"
  local given='' # an option that only the system's installation has
  while (($#)); do
    case $1 in
    -h | --help) usage && exit 0 ;;
    --dry-run) dry_run=yes ;;
    --cpu | --cuda) device=${1#--} ;;
    --user) is_user=yes given=$1 ;;
    --no-start) is_starting=no given=$1 ;;
    --force) is_forced=yes given=$1 ;;
    --uninstall) is_uninstalling=yes given=$1 ;;
    --purge) is_purging=yes given=$1 ;;
    --yes) is_yes=yes given=$1 ;;
    --prefix) [[ -n ${2-} ]] || usage_error "--prefix needs a folder" && prefix=$2 given=$1 && shift ;;
    --bundle) [[ -n ${2-} ]] || usage_error "--bundle needs a file" && bundle=$(realpath -m -- "$2") && shift ;;
    --signers) [[ -n ${2-} ]] || usage_error "--signers needs a file" && signers=$2 && shift ;;
    --models) [[ -n ${2-} ]] || usage_error "--models needs names" && IFS=, read -ra models <<<"$2" && given=$1 && shift ;;
    install) command=install ;;
    try | test) command=$1 && shift && break ;;
    *) usage_error "unknown argument: $1" ;;
    esac
    shift
  done
  asked_device=$device
  [[ $command == install || -z $given ]] || usage_error "$command: unknown argument: $given"
  [[ $command != test || -z $bundle ]] || usage_error "test: a bundle has none of the tests' tools"
  [[ $is_purging == no || $is_uninstalling == yes ]] || usage_error "--purge goes with --uninstall"
  case $command in
  try) try "$@" ;;
  test) run_tests "$@" ;;
  install)
    # shellcheck source=systemd/install/system.sh
    source "$root/systemd/install/system.sh"
    install_system
    ;;
  esac
}

try() {
  while (($#)); do
    case $1 in
    -h | --help) usage && exit 0 ;;
    --dry-run) dry_run=yes ;;
    --cpu | --cuda) device=${1#--} ;;
    --keep) demo_args+=(--keep) ;;
    --port) [[ ${2-} =~ ^[0-9]+$ ]] || usage_error "--port needs a number" && demo_args+=(--port "$2") && shift ;;
    --models) [[ -n ${2-} ]] || usage_error "--models needs names" && IFS=, read -ra models <<<"$2" && shift ;;
    --bundle) [[ -n ${2-} ]] || usage_error "--bundle needs a file" && bundle=$(realpath -m -- "$2") && shift ;;
    --signers) [[ -n ${2-} ]] || usage_error "--signers needs a file" && signers=$2 && shift ;;
    *) usage_error "try: unknown argument: $1" ;;
    esac
    shift
  done
  [[ -z $bundle ]] || try_bundle
  set_up "$root/config/requirements.txt"
  step "demo"
  [[ $device == auto ]] || export CUSTOMHOUSE_INFERENCE_DEVICE=$device
  run_last "$venv/bin/customhouse" demo --home "$state" "${demo_args[@]}"
}

# What is tried is the tree inside the bundle; all that is made still lies under .customhouse/ here.
try_bundle() {
  ((${#models[@]} == 0)) || usage_error "--models: a bundle has the models that it was made with"
  hold_lock
  # shellcheck source=systemd/install/bundle.sh
  source "$root/systemd/install/bundle.sh"
  bundle_signers=$signers
  use_bundle "$bundle"
  [[ $dry_run == yes ]] || root=$bundle_source source_dir=$bundle_source
}

run_tests() {
  is_testing=yes
  set_up "$root/config/requirements.txt" "$root/config/requirements-test.txt"
  provide_oracle
  provide_litellm
  provide_node
  step "tests"
  export PATH=$venv/bin:$PATH CUSTOMHOUSE_TEST_WEIGHTS=$state/weights
  export CUSTOMHOUSE_TEST_LOCALSTRIPE=$oracle/bin/localstripe CUSTOMHOUSE_TEST_NODE=$node
  export CUSTOMHOUSE_TEST_LITELLM=$litellm/bin/python
  cd "$root"
  run_last "$venv/bin/python" -m tests "$@"
}

set_up() { # set_up LIST…
  local lists=("$@")
  choose_device
  check_machine
  check_tools
  find_python
  hold_lock
  export PIP_USER=0 # a pip configured with user = true refuses to work in an environment
  [[ $device != cuda ]] || lists+=("$root/config/requirements-cuda.txt")
  make_environment "${lists[@]}"
  provide_llama
  make_command
  fetch_weights
  [[ -z $bundle ]] || drop_bundle
}

# --- what the machine must have ---------------------------------------------------------------------------------------

check_machine() {
  [[ $(uname -s) == Linux ]] || die "Customhouse runs on Linux; this is $(uname -s)"
  [[ $(uname -m) == x86_64 ]] ||
    die "this is $(uname -m): pysqlite3, the SQLite that Customhouse brings along, exists for x86_64 only"
  local free_mb needed_mb=3000 # environment 1,000, weights 200, the compile 600, what it all travels in
  [[ $device != cuda ]] || needed_mb=9000
  local place=$state
  while [[ ! -d $place ]]; do place=$(dirname "$place"); done
  free_mb=$(df -Pm "$place" | awk 'NR == 2 { print $4 }')
  [[ -d $venv ]] || ((free_mb >= needed_mb)) ||
    die "$place has $free_mb MB free; the environment, the weights and the compile need $needed_mb"
}

# Names everything that is missing at once, so that the operator asks for root only once.
check_tools() {
  local packages=()
  find_python quietly || packages+=(python3 python3-venv)
  [[ -z $python ]] || "$python" -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
  # Two of the starter models come from npm. A system is spared Debian's four hundred packages of it: `models fetch` brings
  # a pinned node along where there is none.
  [[ $command == install || -n $bundle ]] || command -v npm >/dev/null || packages+=(npm)
  [[ $is_testing == no ]] || command -v node >/dev/null || packages+=(nodejs) # the tests run Node clients
  if ! find_wheel; then
    { command -v cc && command -v c++; } >/dev/null || packages+=(build-essential)
  elif [[ -z $python ]] || ! "$python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null; then
    packages+=(libgomp1) # what the compiler would bring along
  fi
  ((${#packages[@]})) || return 0
  local get="apt-get install -y ${packages[*]}"
  if [[ $(id -u) == 0 && -z $bundle ]] && command -v apt-get >/dev/null; then
    say "missing: ${packages[*]}; you are root, so they are installed now: $get"
    follow apt apt_get "${packages[@]}"
  else
    die "missing: ${packages[*]}. On Debian and Ubuntu: sudo $get    Then run this again"
  fi
}

apt_get() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update && apt-get install -y --no-install-recommends "$@"
}

# Sets python. The pinned releases have wheels for 3.11 to 3.13.
find_python() { # find_python [quietly]
  local name
  for name in python3 python3.13 python3.12 python3.11; do
    command -v "$name" >/dev/null || continue
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null &&
      { [[ -z $bundle ]] || python_fits_bundle "$name"; }; then
      python=$(command -v "$name")
      return 0
    fi
  done
  [[ ${1-} != quietly ]] || return 1
  [[ $dry_run == no ]] || { python=python3 && return; } # it would be there by now
  die "no Python 3.11, 3.12 or 3.13 found (python3 is: $(python3 --version 2>&1 || true)); install one of them"
}

choose_device() {
  if [[ $(nvidia-smi -L 2>/dev/null) == GPU* ]]; then
    is_gpu_seen=yes
  elif [[ -e /dev/nvidiactl ]] && compgen -G '/dev/nvidia[0-9]*' >/dev/null; then
    is_gpu_seen=yes # a container may have the device without the tool
  fi
  case $device-$is_gpu_seen in
  auto-yes) device=cuda && say "device: CUDA (an NVIDIA GPU is here; --cpu overrides)" ;;
  auto-no) say "device: CPU (no NVIDIA GPU is here; --cuda overrides). The same packages run on the CPU" ;;
  cuda-no) say "device: CUDA, as asked, though no GPU is seen here: health will say degraded" ;;
  *) say "device: ${device^^}, as asked" ;;
  esac
}

# Prints the compiler of a CUDA toolkit that llama.cpp can be built with: nvcc alone, without cuBLAS, is not enough.
find_nvcc() {
  local nvcc top header
  nvcc=$(PATH=$PATH:/usr/local/cuda/bin command -v nvcc) || return 1
  top=$("$nvcc" -dryrun -x cu -c /dev/null 2>&1 | sed -n 's/^#\$ TOP=//p') || true
  for header in "$top"/include/cublas_v2.h "$top"/targets/*/include/cublas_v2.h /usr/include/cublas_v2.h; do
    [[ -e $header ]] && echo "$nvcc" && return
  done
  return 1
}

# --- the environment --------------------------------------------------------------------------------------------------

make_environment() { # make_environment LIST…
  local list key version options=() is_complete=yes
  version=$("$python" -c 'import sys; print(sys.executable, *sys.version_info[:2])' 2>/dev/null) || [[ $dry_run == yes ]]
  if ! is_done venv "$version" || [[ -e $stamps/installing ]] || ! "$venv/bin/python" -c '' 2>/dev/null; then
    step "environment: $("$python" --version 2>/dev/null || echo Python) in ${venv#"$root/"}"
    run rm -rf "$stamps"
    run "$python" -m venv --clear "$venv"
    mark_done venv "$version"
  fi
  for list in "$@"; do
    options+=(-r "$list")
    is_done "$(basename "$list")" "$(sha256sum <"$list")" || is_complete=no
  done
  [[ $is_complete == no ]] || return 0
  step "packages: pinned, and checked against their digests"
  install_into_venv packages --require-hashes "${options[@]}"
  for list in "$@"; do mark_done "$(basename "$list")" "$(sha256sum <"$list")"; done
}

make_command() {
  local key
  key=$(cat "$root/pyproject.toml" <(echo "$source_dir") | sha256sum)
  if is_done command "$key" && [[ -x $venv/bin/customhouse ]]; then return; fi
  step "command: ${venv#"$root/"}/bin/customhouse"
  install_into_venv command --no-deps --no-build-isolation --no-index -e "$source_dir"
  mark_done command "$key"
}

# A pip that was killed may leave a package that looks installed: while the mark stands, the environment is not trusted.
install_into_venv() { # install_into_venv LOG PIP-OPTION…
  local log=$1
  shift
  mark_done installing "$log"
  follow "$log" "$venv/bin/python" -m pip install --no-input "$@"
  rm -f "$stamps/installing"
}

fetch_weights() {
  if [[ -n $bundle ]]; then
    step "weights: those in the bundle"
    CUSTOMHOUSE_HOME=$state bring_weights run "$venv/bin/customhouse"
    return
  fi
  step "weights: the starter set${models[*]:+ and ${models[*]}}"
  CUSTOMHOUSE_HOME=$state run "$venv/bin/customhouse" models fetch
  ((${#models[@]} == 0)) || CUSTOMHOUSE_HOME=$state run "$venv/bin/customhouse" models fetch "${models[@]}"
}

# Somebody else's Stripe, which the tests compare ours with. It is GPL: a program of its own, spoken to over loopback.
provide_oracle() {
  provide_beside oracle "localstripe: what the billing tests compare with, in .customhouse/oracle"
}

# LiteLLM's own guardrail classes, run against the surfaces that they are for. It asks for other versions than we do, and
# for a certifi that is not out yet: so the list is taken as it stands.
provide_litellm() {
  provide_beside litellm "LiteLLM: whose guardrails the tests run, in .customhouse/litellm" --no-deps
}

provide_beside() { # provide_beside NAME TITLE [PIP-OPTION…]: config/requirements-NAME.txt in an environment of its own
  local name=$1 title=$2 key
  local folder=$state/$name list=$root/config/requirements-$name.txt
  shift 2
  key=$(sha256sum <"$list")
  if is_done "$name" "$key" && [[ -d $folder ]]; then return; fi
  step "$title"
  run rm -f "$stamps/$name"
  run "$python" -m venv --clear "$folder"
  follow "$name" "$folder/bin/python" -m pip install --no-input "$@" --require-hashes -r "$list"
  mark_done "$name" "$key"
}

# The official Node clients of the wire formats that Customhouse speaks: the tests run them against the real server.
# The lock has a digest of each package and no address, so whatever registry npm is configured for serves them.
provide_node() {
  local key major
  major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null) || major=0
  [[ $dry_run == yes ]] || ((major >= 20)) ||
    die "the tests run Node clients that need Node 20 or later, and this is $(node --version 2>&1); install a later one"
  key=$(cat "$root"/tests/node/{package.json,package-lock.json,.npmrc} | sha256sum)
  if is_done node "$key" && [[ -d $node/node_modules ]]; then return; fi
  step "Node clients: what the wire formats are tested with, in .customhouse/node"
  run rm -rf "$stamps/node" "$node"
  run mkdir -p "$node"
  run cp "$root"/tests/node/{package.json,package-lock.json,.npmrc} "$node/"
  follow node npm ci --prefix "$node" --ignore-scripts --no-audit --no-fund --loglevel http
  mark_done node "$key"
}

# --- llama-cpp-python: PyPI has its source only, so it is built once and the wheel is kept ----------------------------

provide_llama() {
  find_wheel || build_wheel
  if ! is_done llama "$(identity "$wheel")"; then
    step "llama-cpp-python: ${wheel#"$root/"}"
    install_into_venv llama-install --no-deps --no-index --force-reinstall "$wheel"
    check_llama
    mark_done llama "$(identity "$wheel")"
  fi
  keep_wheel
}

# A wheel from another machine may need a library, or a processor, that this one lacks: better said here than by infer.
check_llama() {
  local answer
  [[ $dry_run == no ]] || return 0
  if ! answer=$("$venv/bin/python" -c '
import llama_cpp
llama_cpp.llama_backend_init()
print("gpu" if llama_cpp.llama_supports_gpu_offload() else "cpu")' 2>"$logs/llama-check.log"); then
    [[ $wheel != "$wheels"/* ]] || rm -f "$wheel"
    die "$wheel does not load here (${logs#"$root/"}/llama-check.log). Run this again without CUSTOMHOUSE_WHEELS: it
  is then built for this machine"
  fi
  [[ $device != cuda || $answer == gpu ]] || say "this llama-cpp-python has no CUDA: the judges will run on the CPU"
}

# One that was lent by CUSTOMHOUSE_WHEELS is needed again when that is not set.
keep_wheel() {
  local folder
  folder=$(wheel_folder)
  [[ $wheel != "$folder"/* ]] || return 0
  run mkdir -p "$folder"
  run cp "$wheel" "$folder/half"
  run mv "$folder/half" "$folder/$(basename "$wheel")"
  wheel=$folder/$(basename "$wheel")
}

identity() { if [[ -f $1 ]]; then sha256sum <"$1"; fi; }

# Sets wheel to one that fits: of this version, for this device, compiled for a processor like this one.
find_wheel() {
  local folder found
  for folder in "$(wheel_folder)" "$root/.customhouse/wheels/$(basename "$(wheel_folder)")" \
    "${bundle_wheels-}" "${CUSTOMHOUSE_WHEELS-}"; do
    found=$(compgen -G "$folder/llama_cpp_python-$(llama_version)-*.whl" | head -n 1) || true
    [[ -n $folder && -n $found ]] && wheel=$found && return 0
  done
  wheel=
  return 1
}

llama_version() { sed -n 's/^llama-cpp-python==\([^ ]*\).*/\1/p' "$root/config/requirements-llama.txt"; }

# The kernels are compiled for the very processor (-march=native): a checkout on a shared disk may be used by others.
wheel_folder() {
  local flags
  flags=$({ grep -m 1 '^flags' /proc/cpuinfo || true; } && echo "${CMAKE_ARGS-}")
  echo "$wheels/$(llama_device)-$(sha256sum <<<"$flags" | head -c 8)"
}

llama_device() { if [[ $device == cuda ]] && find_nvcc >/dev/null; then echo cuda; else echo cpu; fi; }

build_wheel() {
  local version folder cmake_args=${CMAKE_ARGS-} nvcc
  version=$(llama_version)
  folder=$(wheel_folder)
  step "llama-cpp-python $version: compiled from source for $(llama_device), once; 6 to 10 minutes on 2 cores"
  if [[ $device == cuda ]]; then
    if nvcc=$(find_nvcc); then
      say "with CUDA ($nvcc): this takes longer"
      cmake_args="-DGGML_CUDA=on -DCMAKE_CUDA_COMPILER=$nvcc $cmake_args"
      # By default it is compiled for the GPU that is here. Where none is, for one architecture a generation.
      [[ $is_gpu_seen == yes ]] || cmake_args="-DCMAKE_CUDA_ARCHITECTURES=all-major $cmake_args"
    else
      say "WITHOUT CUDA, because NVIDIA's CUDA toolkit (nvcc and cuBLAS) is not installed: language and vision judges
will run on the CPU, and health will say so. Install the toolkit and run this again"
    fi
  fi
  make_build_tools
  unpack_source "$version"
  # The build folder outlives an interruption, so that ninja goes on where it was.
  CMAKE_ARGS=$cmake_args PATH=$build/venv/bin:$PATH follow llama "$build/venv/bin/python" -m pip wheel -v --no-input \
    --no-deps --no-index --no-build-isolation --config-settings "build-dir=$build/$(basename "$folder")" \
    -w "$build/out" "$build/source"
  run mkdir -p "$folder"
  run mv "$build/out/llama_cpp_python-$version-"*.whl "$folder/"
  run rm -rf "$build"
  find_wheel || wheel=$folder/llama_cpp_python-$version.whl # only a dry run finds none
}

# cmake and ninja come from PyPI: no system package, and one version everywhere.
make_build_tools() {
  if "$build/venv/bin/python" -c 'import cmake, ninja, scikit_build_core' 2>/dev/null; then return; fi
  run "$python" -m venv --clear "$build/venv"
  follow llama-tools "$build/venv/bin/python" -m pip install --no-input \
    --require-hashes -r "$root/config/requirements-build.txt"
}

unpack_source() { # unpack_source VERSION
  local half=$build/source.half
  [[ ! -d $build/source ]] || return 0
  run rm -rf "$half" "$build/download"
  follow llama-source "$build/venv/bin/python" -m pip download --no-input --no-deps --no-build-isolation \
    --no-binary :all: --require-hashes -r "$root/config/requirements-llama.txt" -d "$build/download"
  run mkdir -p "$half"
  run tar -xzf "$build/download/llama_cpp_python-$1.tar.gz" -C "$half" --strip-components=1
  run mv "$half" "$build/source"
  run rm -rf "$build/download"
}

# --- saying and doing -------------------------------------------------------------------------------------------------

say() { printf '%s\n' "$*"; }

step() { printf '\n== %s\n' "$*"; }

die() {
  printf '\ninstall.sh: %s\n' "$*" >&2
  exit 1
}

usage_error() {
  printf 'install.sh: %s\n\n' "$*" >&2
  usage >&2
  exit 2
}

# Two at once would build on each other's halves. The lock goes with the process, however it ends.
hold_lock() {
  [[ $dry_run == no ]] || return 0
  mkdir -p "$state" "$logs" "$stamps"
  chmod 750 "$state"
  exec 9>"$state/install.lock"
  if flock -n 9; then return; fi
  say "another ./install.sh works on this folder; waiting for it"
  flock 9
}

is_done() { [[ -f $stamps/$1 && $(<"$stamps/$1") == "$2" ]]; }

mark_done() {
  [[ $dry_run == no ]] || return 0
  mkdir -p "$stamps"
  printf '%s\n' "$2" >"$stamps/$1"
}

show() {
  printf '  would run:'
  printf ' %q' "$@"
  printf '\n'
}

run() { if [[ $dry_run == yes ]]; then show "$@"; else "$@"; fi; }

# Replaces this process, and lets go of the lock: the demo may run for days.
run_last() {
  if [[ $dry_run == yes ]]; then
    show "$@"
  else
    exec "$@" 9>&-
  fi
}

# Runs a long command: its output to a log, on the screen how far it is. If it fails, shows the log's end and ends.
follow() { # follow LOG COMMAND…
  local log=$logs/$1.log
  shift
  if [[ $dry_run == yes ]]; then
    show "$@"
    return
  fi
  mkdir -p "$logs"
  "$@" </dev/null 2>&1 | without_addresses | tee "$log" | progress ||
    { tail -n 25 "$log" >&2 && die "that failed: the end of ${log#"$root/"} is above. Mend it and run this again"; }
}

without_addresses() { sed -u -E -e '/^Looking in /d' -e 's#[a-zA-Z+]+://[^][ )>"]+#(address)#g'; }

# Reads pip's, npm's and ninja's lines. On a terminal one line that changes; otherwise a line every twenty seconds.
progress() {
  local line now='' last=-20 fetched=0
  while IFS= read -r line; do
    if [[ $line =~ \[([0-9]+)/([0-9]+)\] ]]; then
      now="compiled ${BASH_REMATCH[1]} of ${BASH_REMATCH[2]} files"
    elif [[ $line =~ ^\ *(Collecting|Downloading|Using\ cached|Unpacking|Setting\ up)\ ([^ ]+)\ ?(\([0-9][^\)]*\))? ]]; then
      now="${BASH_REMATCH[1],} ${BASH_REMATCH[2]} ${BASH_REMATCH[3]}"
    elif [[ $line == npm\ http\ fetch* ]]; then
      now="fetched $((++fetched)) files"
    elif [[ $line == Installing\ collected\ packages:* ]]; then
      now="installing $(tr -cd , <<<"$line," | wc -c) packages"
    else
      continue
    fi
    if [[ -t 1 ]]; then
      printf '\r\033[K  %s' "${now:0:100}"
    elif ((SECONDS - last >= 20)); then
      printf '  %s\n' "$now"
      last=$SECONDS
    fi
  done
  if [[ -t 1 && -n $now ]]; then printf '\r\033[K'; fi
}

main "$@"
