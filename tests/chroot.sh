#!/usr/bin/env bash
# What tests/chroot.py runs inside a clean root: installed, installed again, run, asked, removed, purged.
set -euo pipefail

tree=/root/customhouse
log=/root/chroot.log

main() {
  cd "$tree"
  if [[ -n ${WITH_SYSTEMD-} ]]; then
    { apt-get update && apt-get install -y --no-install-recommends systemd; } >"$log" 2>&1 || fail "no systemd"
  fi
  tell "$(sed -n 's/^PRETTY_NAME=//p' /etc/os-release), $(dpkg -l | grep -c ^ii) packages, \
systemd $(systemctl --version 2>/dev/null | head -n 1 | cut -d ' ' -f 2 | grep . || echo is not installed)"
  dry_run
  install_it
  install_again
  look_at_modes
  look_at_units
  run_it
  upgrade_it
  stop_it
  remove_it
  install_over
  purge_it
  tell "every step came out as it has to"
}

dry_run() {
  tell "--dry-run: says all, touches nothing"
  everything >/root/before
  ./install.sh --dry-run >"$log" 2>&1 || fail "--dry-run ended with $?"
  everything >/root/after
  diff /root/before /root/after >&2 || fail "--dry-run touched something"
  grep -q 'release activate' "$log" || fail "--dry-run does not say that it would activate"
}

install_it() {
  tell "sudo ./install.sh --no-start"
  timed ./install.sh --no-start >"$log" 2>&1 || fail "the installation ended with $?"
  [[ $(readlink /opt/customhouse/current) == versions/* ]] || fail "nothing is current"
  client=$(sed -n 's/.*to submit with: *//p' "$log")
  [[ -n $client ]] || fail "no key was shown"
  grep -E '^(==|  (WARN|FAIL|to |systemd|nothing|version|[0-9.]+:))' "$log" | sed "s/\(to [a-z]* with: *.\{8\}\).*/\1…/"
}

install_again() {
  tell "a second time: nothing changes"
  everything >/root/before
  timed ./install.sh --no-start >"$log" 2>&1 || fail "the second installation ended with $?"
  everything >/root/after
  diff /root/before /root/after >&2 || fail "the second installation changed something"
  grep -q 'nothing has changed' "$log" || fail "the second installation does not say that nothing has changed"
  ! grep -q 'to submit with' "$log" || fail "the second installation made a key"
}

look_at_modes() {
  tell "who owns what"
  expect "customhouse:customhouse 750" /var/lib/customhouse
  expect "customhouse:customhouse 600" /var/lib/customhouse/pepper
  expect "customhouse:customhouse 640" /var/lib/customhouse/customhouse.db
  expect "root:customhouse 750" /etc/customhouse
  expect "root:customhouse 640" /etc/customhouse/customhouse.toml
  expect "root:customhouse 640" /etc/customhouse/environment
  expect "root:customhouse 700" /etc/customhouse/credentials
  expect "root:root 755" /opt/customhouse/versions /usr/local/bin/customhouse
  [[ -z $(find /var/lib/customhouse ! -user customhouse) ]] || fail "not all of the state is the services' user's"
  [[ -z $(find /opt/customhouse \( -user customhouse -o -perm /022 \) ! -type l) ]] || fail "others may write the program"
  [[ -z $(compgen -G '/var/lib/customhouse/.*[a-z]') ]] || fail "left behind: $(compgen -G '/var/lib/customhouse/.*[a-z]')"
  [[ $(getent passwd customhouse | cut -d : -f 7) == */nologin ]] || fail "the services' user may log in"
}

# They are linked, so that the machine would start them, also where systemd is no init.
look_at_units() {
  command -v systemctl >/dev/null || return 0
  tell "units: $(find /etc/systemd/system -maxdepth 1 -type f -name 'customhouse*' | wc -l), enabled: \
$(systemctl list-unit-files 'customhouse*' --state=enabled --no-legend | wc -l)"
  systemctl is-enabled --quiet customhouse.target || fail "the machine would not start it"
  systemd-analyze verify /etc/systemd/system/customhouse*.{service,socket,target,timer} || fail "systemd does not understand the units"
  [[ -f /etc/sysusers.d/customhouse.conf && -f /etc/tmpfiles.d/customhouse.conf ]] || fail "no sysusers, or no tmpfiles"
}

run_it() {
  local until=$((SECONDS + 180)) verdict
  tell "customhouse up, as the services' user, and a verdict of a real picture"
  customhouse up >/root/up.log 2>&1 &
  up=$!
  until customhouse status >/root/status.log 2>&1; do
    ((SECONDS < until)) || fail "it did not become healthy: $(tail -n 20 /root/status.log /root/up.log)"
    sleep 2
  done
  [[ $(ps_users) == customhouse ]] || fail "processes of other users: $(ps_users)"
  # the picture goes through the HTTP API, with the key that the installation showed
  verdict=$(KEY=$client /opt/customhouse/current/venv/bin/python "$tree/tests/chroot_ask.py" \
    /opt/customhouse/current/source/appliance/demo/media/astronaut.jpg)
  tell "$verdict"
  verdict=$(customhouse moderate image /opt/customhouse/current/source/appliance/demo/media/coffee.jpg) || fail "$verdict"
  tell "customhouse moderate image coffee.jpg: $(head -n 1 <<<"$verdict")"
  ! ./install.sh --uninstall >"$log" 2>&1 || fail "it was removed while it ran"
  grep -q 'it runs by hand' "$log" || fail "it does not say why it removes nothing"
}

# The same number from other sources, over what runs; then the way back. Nobody who asks meanwhile is refused.
upgrade_it() {
  local before asker
  before=$(readlink /opt/customhouse/current)
  tell "upgraded while it runs, and back"
  echo '# changed' >>appliance/__init__.py
  KEY=$client /opt/customhouse/current/venv/bin/python "$tree/tests/chroot_ask.py" --until /root/enough >/root/asked 2>&1 &
  asker=$!
  timed ./install.sh >"$log" 2>&1 || fail "the upgrade ended with $?"
  [[ $(readlink /opt/customhouse/current) == "$before.r2" ]] || fail "$(readlink /opt/customhouse/current) is current"
  [[ $(readlink /opt/customhouse/previous) == "$before" ]] || fail "$(readlink /opt/customhouse/previous) is previous"
  customhouse status >/root/status.log || fail "it is not well after the upgrade: $(cat /root/status.log)"
  timed customhouse rollback >"$log" 2>&1 || fail "rollback ended with $?"
  grep 'runs' "$log" || true
  [[ $(readlink /opt/customhouse/current) == "$before" ]] || fail "$(readlink /opt/customhouse/current) is current"
  customhouse status >/root/status.log || fail "it is not well after going back: $(cat /root/status.log)"
  touch /root/enough
  wait "$asker" || fail "somebody was refused: $(cat /root/asked)"
  tell "$(cat /root/asked)"
  [[ -z $(find /var/lib/customhouse ! -user customhouse) ]] || fail "not all of the state is the services' user's"
  sed -i '$d' appliance/__init__.py
}

stop_it() {
  kill -TERM "$(pgrep_up)"
  wait "$up" || true
}

# minbase has no ps
ps_users() {
  local each
  for each in $(processes); do stat -c %U "/proc/$each"; done | sort -u | paste -sd ' '
}

pgrep_up() {
  local each
  for each in $(processes); do
    if tr '\0' ' ' <"/proc/$each/cmdline" | grep -q 'bin/customhouse up $'; then echo "$each" && return; fi
  done
}

processes() {
  local each
  for each in /proc/[0-9]*; do
    if tr '\0' ' ' <"$each/cmdline" 2>/dev/null | grep -qE '^/opt/customhouse/[^ ]*/python'; then basename "$each"; fi
  done
}

remove_it() {
  tell "--uninstall: the state and the settings stay"
  ./install.sh --uninstall >"$log" 2>&1 || fail "--uninstall ended with $?"
  grep -E '^  /(var|etc)' "$log"
  [[ ! -e /opt/customhouse && ! -e /usr/local/bin/customhouse ]] || fail "the program is still there"
  [[ -z $(compgen -G '/etc/systemd/system/customhouse*') ]] || fail "units are still there"
  [[ -f /var/lib/customhouse/customhouse.db && -f /etc/customhouse/customhouse.toml ]] || fail "the state is gone"
}

install_over() {
  tell "installed again over the state: its keys count"
  echo '# mine' >>/etc/customhouse/customhouse.toml
  timed ./install.sh --no-start >"$log" 2>&1 || fail "the installation over the state ended with $?"
  ! grep -q 'to submit with' "$log" || fail "another first key was made"
  grep -q '# mine' /etc/customhouse/customhouse.toml || fail "the operator's settings were written over"
  customhouse keys list | grep -q client || fail "the key is gone"
}

purge_it() {
  tell "--uninstall --purge: a word, and nothing is left"
  ! ./install.sh --uninstall --purge <<<"yes" >"$log" 2>&1 || fail "another word was enough"
  [[ -e /opt/customhouse/current ]] || fail "the wrong word removed something"
  ./install.sh --uninstall --purge <<<"purge" >"$log" 2>&1 || fail "--purge ended with $?"
  for each in /opt/customhouse /var/lib/customhouse /etc/customhouse /run/customhouse /usr/local/bin/customhouse; do
    [[ ! -e $each ]] || fail "$each is still there"
  done
  ! id customhouse >/dev/null 2>&1 || fail "the user is still there"
  ./install.sh --uninstall >"$log" 2>&1 || fail "removing what is not there ended with $?"
  grep -q 'nothing to remove' "$log" || fail "it does not say that there was nothing to remove"
}

# All that an installation may touch: what, whose, which mode, which content.
everything() {
  local place
  for place in /opt /etc /usr/local /var/lib/customhouse /run /root/customhouse; do
    [[ -d $place ]] || continue
    # SQLite's log and its index come and go by looking
    find "$place" ! -name '*.db-wal' ! -name '*.db-shm' -printf '%p %u:%g %m %l\n'
    find "$place" -type f ! -name '*.db-wal' ! -name '*.db-shm' -exec sha256sum {} +
  done | sort
}

expect() { # expect 'OWNER:GROUP MODE' PATH…
  local wanted=$1 path
  for path in "${@:2}"; do
    [[ $(stat -c '%U:%G %a' "$path") == "$wanted" ]] || fail "$path is $(stat -c '%U:%G %a' "$path"), not $wanted"
  done
}

timed() {
  local began=$SECONDS code=0
  "$@" || code=$?
  printf '   %s s\n' "$((SECONDS - began))" >&3
  return "$code"
}

tell() { printf -- '-- %s\n' "$*"; }

fail() {
  printf 'FAILED: %s\n' "$*" >&2
  [[ ! -s $log ]] || tail -n 40 "$log" >&2
  exit 1
}

exec 3>&1
main
