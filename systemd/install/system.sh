# shellcheck shell=bash
# Installs Customhouse on the whole system, or with --user for one user, as services: sourced by install.sh, which has
# the saying and doing, the environment and the wheel of llama-cpp-python. Every step looks first and does only what is
# not done; a version is made completely before `release activate` lets the one symlink, PREFIX/current, point to it.
#
# shellcheck disable=SC2154,SC2034 # what install.sh sets, and what it reads

marker="Made by Customhouse's install.sh"
changed=no    # whether this run changed anything
version=      # the name of the folder below PREFIX/versions
folder=       # that folder
source_id=    # digest of what is copied there, for which Python and device
owner=        # whom the services run as
group=        # and with which group
etc=          # settings
home=         # state
run_dir=      # sockets
command_file= # the command, for everybody's PATH
unit_folder=
systemctl=() # with --user, for a user's services
systemd_version=0

# shellcheck source=systemd/install/units.sh
source "$root/systemd/install/units.sh"

install_system() {
  umask 022 # the services' user reads what root makes here
  choose_places
  if [[ $is_uninstalling == yes ]]; then
    # shellcheck source=systemd/install/remove.sh
    source "$root/systemd/install/remove.sh"
    uninstall
    return
  fi
  [[ -z $bundle ]] || open_bundle
  choose_device
  check_machine
  check_tools
  find_python
  preflight
  hold_lock
  name_version
  provide_user
  make_folders
  remove_halves
  copy_source
  make_version
  write_configuration
  write_command
  provide_weights
  install_units
  activate
  show_first_key
  say_what_is_open
  say_what_is_next
  [[ -z ${bundle_source-} ]] || rm -rf "$state/bundle"
}

# --- where ------------------------------------------------------------------------------------------------------------

choose_places() {
  if [[ $is_user == yes ]]; then
    [[ $(id -u) != 0 || -z ${SUDO_USER-} ]] || die "--user is for the user who asks: run it without sudo"
    local config=${XDG_CONFIG_HOME:-$HOME/.config}
    owner=$(id -un) group=$(id -gn)
    command_file=$HOME/.local/bin/customhouse
    etc=$config/customhouse unit_folder=$config/systemd/user
    systemctl=(systemctl --user)
    settle_prefix "${XDG_DATA_HOME:-$HOME/.local/share}/customhouse"
    home=$prefix/home
    run_dir=${XDG_RUNTIME_DIR:-$home/run}/customhouse
    [[ -n ${XDG_RUNTIME_DIR-} ]] || run_dir=$home/run
  else
    [[ $(id -u) == 0 || $dry_run == yes ]] ||
      die "the system's installation needs root: sudo ./install.sh    Without root: ./install.sh --user, or try"
    owner=customhouse group=customhouse
    command_file=/usr/local/bin/customhouse
    etc=/etc/customhouse unit_folder=/etc/systemd/system
    systemctl=(systemctl)
    settle_prefix /opt/customhouse
    home=/var/lib/customhouse run_dir=/run/customhouse
  fi
  find_systemd
  place_under "$prefix/.install" # wheels, logs, the lock
}

# What was installed with --prefix is found again without it: the command knows where it belongs.
settle_prefix() { # settle_prefix DEFAULT
  if [[ -z $prefix ]] && is_ours "$command_file"; then prefix=$(sed -n "s/^prefix='\(.*\)'\$/\1/p" "$command_file"); fi
  prefix=$(realpath -m -- "${prefix:-$1}")
  [[ $prefix =~ ^/[A-Za-z0-9._+@/-]*$ ]] || usage_error "--prefix $prefix: letters, digits and . _ + @ - only"
  [[ $prefix == /*/* ]] || usage_error "--prefix $prefix: a folder of its own, not one at the top"
}

is_ours() { [[ -f $1 ]] && grep -qF "$marker" "$1"; }

# From here on root is the tree inside the bundle, and pip reaches no index.
open_bundle() {
  local scratch
  # shellcheck source=/dev/null
  source "$root/systemd/install/bundle.sh"
  bundle_signers=$signers
  if [[ $dry_run == yes ]]; then
    scratch=$(mktemp -d)
    use_bundle "$bundle" "$scratch/bundle"
    rm -rf "$scratch"
    bundle_source='' bundle_weights=''
    return
  fi
  use_bundle "$bundle"
  root=$bundle_source
}

# --- before anything is made ------------------------------------------------------------------------------------------

# What failed stops the installation: better now than as a service that does not start.
preflight() {
  local said code=0 asked=(host disk clock permissions gpu memory python.version python.openssl python.authorities)
  step "preflight: what the doctor says of this machine"
  if ! find_python quietly; then # only a dry run comes here without one
    say "  would ask: $python -m appliance.doctor ${asked[*]}"
    return
  fi
  [[ $dry_run == yes ]] || asked+=(sqlite)   # it writes, to measure
  [[ -e $prefix/current ]] || asked+=(ports) # later it is ours that listens
  said=$(cd "$root" && CUSTOMHOUSE_HOME=$home PYTHONDONTWRITEBYTECODE=1 \
    "$python" -m appliance.doctor "${asked[@]}") || code=$?
  # an finding has its cause and its fix on the lines below it; what is well is one line, and is left out
  awk '/^  (ok|–) / { shown = 0; next } /^  (WARN|FAIL)/ { shown = 1 } shown && /^ / { print } / checks in / { print }' <<<"$said"
  case $code in
  0 | 3) ;;
  1)
    [[ $is_forced == yes || $dry_run == yes ]] ||
      die "the doctor found what failed, above. Mend it and run this again, or take it as it is: --force"
    say "going on all the same"
    ;;
  *) die "the doctor could not look at this machine: $said" ;;
  esac
}

# --- the version ------------------------------------------------------------------------------------------------------

# Sets version and folder: the one that holds these very sources for this Python and device, if it is whole; else the next
# free name. What is whole is never worked on again, so that what runs is never half of something: an installation of the
# same number from other sources, or on a newer Python, lies beside it as NUMBER.r2.
name_version() {
  local number count=1
  number=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$root/appliance/__init__.py")
  [[ -n $number ]] || die "$root/appliance/__init__.py names no version"
  source_id=$({ list_sources | digest_of && echo "$device" && python_version; } | sha256sum | cut -d ' ' -f 1)
  for (( ; ; count++)); do
    version=$number
    ((count == 1)) || version=$number.r$count
    folder=$prefix/versions/$version
    if is_whole "$folder"; then
      if [[ $(cat "$folder/source.sha256" 2>/dev/null) == "$source_id" ]] && is_sound "$folder"; then break; fi
    elif [[ $version != "$(current_version)" ]]; then
      break
    fi
  done
  stamps=$folder/stamps
  venv=$folder/venv
  source_dir=$folder/source
}

python_version() { "$python" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null || [[ $dry_run == yes ]]; }

is_whole() { [[ -f $1/release.json ]]; } # written last

is_sound() { (cd / && PYTHONDONTWRITEBYTECODE=1 "$1/venv/bin/python" -c 'import appliance.settings' 2>/dev/null); }

current_version() { if [[ -L $prefix/current ]]; then basename "$(readlink "$prefix/current")"; fi; }

# What git tracks here, or without git everything but what is made; each path ended by a null byte.
list_sources() {
  local git=(git -c "safe.directory=$root" -c core.fsmonitor=false -C "$root")
  if [[ -e $root/.git ]] && command -v git >/dev/null && "${git[@]}" rev-parse >/dev/null 2>&1; then
    "${git[@]}" ls-files -z | while IFS= read -r -d '' path; do
      if [[ -f $root/$path ]]; then printf '%s\0' "$path"; fi # deleted, and not committed yet
    done
  else
    (cd "$root" && find . \( -name .customhouse -o -name .git -o -name __pycache__ -o -name '*.egg-info' \) -prune \
      -o -type f -print0) | sed -z 's#^\./##'
  fi | LC_ALL=C sort -z
}

digest_of() { (cd "$root" && xargs -0 sha256sum --) | sha256sum | cut -d ' ' -f 1; }

# What an earlier run left unfinished, under another name than ours.
remove_halves() {
  local other
  for other in "$prefix"/versions/*/; do
    other=${other%/}
    if [[ ! -d $other || $other == "$folder" || $(basename "$other") == "$(current_version)" ]]; then continue; fi
    if is_whole "$other"; then continue; fi
    step "clearing away ${other#"$prefix/"}, which was never finished"
    run rm -rf "$other"
  done
}

copy_source() {
  if [[ -d $source_dir && $(cat "$folder/source.sha256" 2>/dev/null) == "$source_id" ]]; then return; fi
  step "source: $(list_sources | tr -cd '\0' | wc -c) files to versions/$version/source"
  run rm -rf "$source_dir" "$folder/source.half" "$folder/source.sha256"
  run mkdir -p "$folder/source.half"
  run copy_files "$folder/source.half"
  run mv "$folder/source.half" "$source_dir"
  write_file 0644 "$(id -un)" "$(id -gn)" "$folder/source.sha256" <<<"$source_id"
}

copy_files() { # copy_files FOLDER
  list_sources | tar -C "$root" --null --no-recursion -T - -cf - | tar -C "$1" --no-same-owner --no-same-permissions -xf -
}

make_version() {
  local lists=("$root/config/requirements.txt")
  if is_whole "$folder"; then return; fi
  [[ $device != cuda ]] || lists+=("$root/config/requirements-cuda.txt")
  export PIP_USER=0
  make_environment "${lists[@]}"
  provide_llama
  make_command
  # the services' user may not write here, so what Python would compile at each start is compiled now
  run "$venv/bin/python" -m compileall -q "$source_dir/appliance" "$source_dir/tui"
  [[ $dry_run == yes ]] || as_owner "$venv/bin/python" -c '' ||
    die "$owner cannot run $venv/bin/python: is $(readlink -f "$venv/bin/python") in a folder that only root enters?"
  change "$venv/bin/customhouse" release describe "$folder"
}

# --- the user, the folders, the settings ------------------------------------------------------------------------------

provide_user() {
  local lines=$root/systemd/customhouse.sysusers
  [[ $is_user == no ]] || return 0
  if id "$owner" >/dev/null 2>&1; then return; fi
  step "user: $owner, who owns $home and may not log in"
  if command -v systemd-sysusers >/dev/null && [[ -f $lines ]]; then
    write_file 0644 root root /etc/sysusers.d/customhouse.conf < <(fill_in "$lines")
    run systemd-sysusers /etc/sysusers.d/customhouse.conf
  else
    run useradd --system --user-group --home-dir "$home" --no-create-home --shell /usr/sbin/nologin \
      --comment "Customhouse" "$owner"
  fi
}

make_folders() {
  local as=root
  [[ $is_user == no ]] || as=$owner
  make_folder 0755 "$as" "$prefix"
  make_folder 0755 "$as" "$prefix/versions"
  make_folder 0750 "$as" "$etc"
  make_folder 0700 "$as" "$etc/credentials"
  make_folder 0750 "$owner" "$home"
  make_folder 0750 "$owner" "$home/weights"
  make_folder 0750 "$owner" "$run_dir"
  make_credentials "$as"
}

# Empty ones count as none: a service whose credential is not there at all does not start.
make_credentials() { # make_credentials OWNER
  local name of=$1
  [[ $is_user == no ]] || of=$group
  for name in stripe-key tls-certificate tls-key; do
    [[ -e $etc/credentials/$name ]] || change install -m 0600 -o "$1" -g "$of" /dev/null "$etc/credentials/$name"
  done
}

make_folder() { # make_folder MODE OWNER PATH
  local of=$group
  [[ $2 != root || $3 == "$etc"* ]] || of=root
  if [[ -d $3 && $(stat -c '0%a %U %G' "$3") == "$1 $2 $of" ]]; then return; fi
  change mkdir -p "$(dirname "$3")"
  change install -d -m "$1" -o "$2" -g "$of" "$3"
}

# Settings are the operator's: written once, never again.
write_configuration() {
  local as=root
  [[ $is_user == no ]] || as=$owner
  [[ -e $etc/customhouse.toml ]] || write_file 0640 "$as" "$group" "$etc/customhouse.toml" <<END
# Settings of this box. Only what differs from the defaults need stand here:
# $prefix/current/source/config/customhouse.toml shows every setting with its default and its reason,
# \`customhouse config show --origin\` what holds and where it comes from, \`customhouse config check\` whether it is
# usable. What stands in ${etc}/environment comes before this file.

END
  if [[ ! -e $etc/environment ]]; then
    write_file 0640 "$as" "$group" "$etc/environment" < <(initial_environment)
  elif [[ $asked_device != auto ]] && ! grep -qx "CUSTOMHOUSE_INFERENCE_DEVICE=$asked_device" "$etc/environment"; then
    say "$etc/environment is yours and stays as it is; for --$asked_device write CUSTOMHOUSE_INFERENCE_DEVICE=$asked_device there"
  fi
}

initial_environment() {
  cat <<END
# KEY=VALUE for the services and for the command. CUSTOMHOUSE_<SECTION>_<KEY> is a setting and comes before the file.
CUSTOMHOUSE_HOME=$home
CUSTOMHOUSE_CONFIG=$etc/customhouse.toml
CUSTOMHOUSE_RUNTIME_DIR=$run_dir
END
  [[ $asked_device == auto ]] || echo "CUSTOMHOUSE_INFERENCE_DEVICE=$asked_device"
}

write_command() {
  local as=root of=root
  [[ $is_user == no ]] || { as=$owner && of=$group; }
  [[ ! -e $command_file ]] || is_ours "$command_file" ||
    die "$command_file is there and is not ours: move it away and run this again"
  write_file 0755 "$as" "$of" "$command_file" < <(the_command)
}

the_command() {
  cat <<END
#!/bin/sh
# $marker, which writes it anew each time.
# The settings of the services are the command's too; root becomes the services' user, so that no file is root's.
prefix='$prefix'
owner='$owner'
if [ -r '$etc/environment' ]; then
  while IFS='=' read -r name value; do
    case \$name in
    CUSTOMHOUSE_*[!A-Z0-9_]*) ;;
    CUSTOMHOUSE_*)
      value=\${value#[\"\']} value=\${value%[\"\']}
      eval "given=\\\${\$name+yes}" # what the caller sets counts
      [ "\$given" = yes ] || export "\$name=\$value"
      ;;
    esac
  done <'$etc/environment'
fi
export CUSTOMHOUSE_HOME="\${CUSTOMHOUSE_HOME:-$home}"
export CUSTOMHOUSE_CONFIG="\${CUSTOMHOUSE_CONFIG:-$etc/customhouse.toml}"
export CUSTOMHOUSE_RUNTIME_DIR="\${CUSTOMHOUSE_RUNTIME_DIR:-$run_dir}"
program=\$prefix/current/venv/bin/customhouse
if [ "\$(id -u)" = 0 ] && [ "\$owner" != root ]; then
  # a restart of the machine takes it away, and where systemd is not what starts us nobody brings it back
  [ -d '$run_dir' ] || install -d -m 0750 -o "\$owner" -g '$group' '$run_dir'
  case \${1-} in
  release | rollback | restart | config | support-bundle) ;; # they switch services, or write what only root may
  *) HOME='$home' exec runuser -u "\$owner" -- "\$program" "\$@" ;;
  esac
fi
exec "\$program" "\$@"
END
}

# --- weights ----------------------------------------------------------------------------------------------------------

# Fetched in a state directory of their own that only shares the weights: the command of a new version would bring the
# database up to date, and that is for `release activate`, after its backup.
provide_weights() {
  local scratch=$home/.install before
  step "weights: the starter set${models[*]:+ and ${models[*]}}, in $home/weights"
  before=$(weights_now)
  run rm -rf "$scratch"
  run_as_owner mkdir -m 0700 "$scratch"
  run_as_owner ln -s ../weights "$scratch/weights"
  if [[ -n ${bundle_weights-} ]]; then
    unpack_weights "$scratch" # a bundle has the models that it was made with: what it lacks is not reached for
  else
    fetch_as_owner
    ((${#models[@]} == 0)) || fetch_as_owner "${models[@]}"
  fi
  run rm -rf "$scratch"
  [[ $(weights_now) == "$before" ]] || changed=yes
}

# What pip and npm would keep for another time is as large as the weights, and there is no other time.
fetch_as_owner() {
  CUSTOMHOUSE_HOME=$home/.install PIP_NO_CACHE_DIR=1 NPM_CONFIG_CACHE=$home/.install/npm \
    run_as_owner "$venv/bin/customhouse" models fetch "$@"
}

weights_now() {
  [[ ! -d $home/weights ]] || find "$home/weights" -type f ! -name '.*' -printf '%P %s %T@\n' | sort
}

# Each model by the digest in its manifest.
unpack_weights() { # unpack_weights SCRATCH
  local key
  key=$(find "$bundle_weights" -type f -printf '%P %s\n' | sort | sha256sum)
  if is_done bundled "$key" && [[ -n $(weights_now) ]]; then return; fi
  chmod 755 "$state" "$state/bundle" # the services' user reads it
  CUSTOMHOUSE_HOME=$1 bring_weights run_as_owner "$venv/bin/customhouse"
  chown -R "$owner:$group" "$home/weights"
  mark_done bundled "$key"
}

# --- what the operator needs to know ----------------------------------------------------------------------------------

show_first_key() {
  local made client admin
  if [[ $dry_run == yes ]]; then
    say "  would make the first two keys, if there is none yet, and show them once"
    return
  fi
  made=$(ask_quietly keys list --json)
  [[ $made == "[]" ]] || return 0
  step "keys: shown this once"
  client=$(ask_quietly keys create --org default --name client --reason "made by install.sh")
  admin=$(ask_quietly keys create --org default --name admin --reason "made by install.sh" --scope job:read \
    --scope usage:read --scope webhook:manage --scope account:config --scope admin:config)
  say "  to submit with:      $client"
  say "  to administer with:  $admin"
  changed=yes
}

ask_quietly() { as_owner "$venv/bin/customhouse" "$@" 2>/dev/null; }

say_what_is_open() {
  local address
  address=$(listening)
  step "network: what listens where"
  say "  $address  the HTTP API, the only port. Operators, models and worker are asked over sockets in files."
  case $address in
  127.* | ::1* | localhost:*)
    say "  Only this machine reaches it, so no firewall need be opened. For others, put a proxy with TLS in front"
    say "  (config/proxy), or have it listen elsewhere, and let in only those who should:"
    ;;
  *) say "  Whoever reaches this machine reaches it. Let in only those who should:" ;;
  esac
  say "    ufw allow from 10.0.0.0/8 to any port ${address##*:} proto tcp"
  say "    nft add rule inet filter input ip saddr 10.0.0.0/8 tcp dport ${address##*:} accept"
}

# Where systemd holds the socket its unit decides, else the settings, in the words of the version's own command.
listening() {
  local host=127.0.0.1 port=8000 found
  if is_systemd_here && found=$("${systemctl[@]}" show --property=Listen --value customhouse-api.socket 2>/dev/null) &&
    [[ $found =~ ^([^ ]+:[0-9]+) ]]; then
    echo "${BASH_REMATCH[1]}"
    return
  fi
  if [[ $dry_run == no ]] && found=$(ask_quietly config show --json); then
    found=$("$venv/bin/python" -c '
import json, sys
server = json.load(sys.stdin)["server"]
print(server["host"], server["port"])' <<<"$found" 2>/dev/null) && read -r host port <<<"$found"
  fi
  echo "$host:$port"
}

say_what_is_next() {
  local sudo=sudo
  [[ $is_user == no ]] || sudo=
  step "done"
  if [[ $dry_run == yes ]]; then
    say "  nothing was touched"
    return
  fi
  if [[ $changed == no ]]; then
    say "  nothing has changed: version $version is installed, and it is the current one"
  else
    say "  version $version is the current one, in $prefix/versions/$version"
  fi
  if [[ -n $(running_by_hand) ]]; then
    say "  it runs by hand, by customhouse up"
  elif ! is_systemd_here; then
    say "  systemd does not run here, so nothing was started. Start it: ${sudo:+$sudo }$command_file up"
  elif [[ $is_starting == no ]]; then
    say "  nothing was started, as asked. Start it: ${systemctl[*]} start customhouse.target"
  else
    say "  ${systemctl[*]} status 'customhouse*'    journalctl -u 'customhouse*' -f"
    [[ $is_user == no ]] || say "  to run while you are logged out, and from the machine's start: loginctl enable-linger $owner"
  fi
  say "  $command_file status    how everything is;  ${sudo:+$sudo }$command_file tui    to administer"
  say "  settings: $etc/customhouse.toml    state: $home (back it up)    upgrade: install.sh of the newer version"
}

# --- doing ------------------------------------------------------------------------------------------------------------

# The processes of a `customhouse up` that was started from a terminal: systemd would not stop them.
running_by_hand() {
  local line
  ! is_systemd_here || return 0
  for line in /proc/[0-9]*/cmdline; do
    if tr '\0' ' ' <"$line" 2>/dev/null | grep -qE "^$prefix/(versions/[^/ ]+|current)/venv/bin/"; then
      basename "$(dirname "$line")"
    fi
  done 2>/dev/null | paste -sd ' '
}

change() {
  changed=yes
  run "$@"
}

# As the services' user, who owns the state; elsewhere than in a folder that this user may not enter.
as_owner() {
  local drop=()
  [[ $(id -un) == "$owner" ]] || drop=(runuser -u "$owner" -- env "HOME=$home")
  (cd / && CUSTOMHOUSE_HOME=${CUSTOMHOUSE_HOME:-$home} CUSTOMHOUSE_CONFIG=$etc/customhouse.toml \
    CUSTOMHOUSE_RUNTIME_DIR=$run_dir exec "${drop[@]}" "$@")
}

run_as_owner() { if [[ $dry_run == yes ]]; then show "$@"; else as_owner "$@"; fi; }

run_unless_done() { # run_unless_done STAMP KEY COMMAND…
  local stamp=$1 key=$2
  shift 2
  if is_done "$stamp" "$key"; then return; fi
  change "$@"
  mark_done "$stamp" "$key"
}

# Standard input becomes the file, whole or not at all, if it is not that already.
write_file() { # write_file MODE OWNER GROUP PATH
  local text half=$4.half
  text=$(cat && echo .)
  text=${text%.}
  if [[ -f $4 && "$(cat "$4" && echo .)" == "$text." && $(stat -c '0%a %U %G' "$4") == "$1 $2 $3" ]]; then return; fi
  if [[ $dry_run == yes ]]; then
    say "  would write $4"
    return
  fi
  changed=yes
  mkdir -p "$(dirname "$4")"
  install -m "$1" -o "$2" -g "$3" /dev/null "$half"
  printf '%s' "$text" >"$half"
  mv "$half" "$4"
}
