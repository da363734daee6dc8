# shellcheck shell=bash
# The units, as they are meant for this machine, and handing over to `customhouse release activate`: sourced by system.sh.
#
# shellcheck disable=SC2154 # what install.sh and system.sh set

# The units as they are meant for this machine are kept in the version, and put where systemd looks for them.
install_units() {
  local unit
  step "units: in $unit_folder"
  for unit in "$root"/systemd/*.{service,socket,target,timer}; do
    [[ ! -f $unit ]] || install_unit "$unit" "$(basename "$unit")"
  done
  if ((systemd_version >= 254)); then
    for unit in api worker inference; do add_to "$unit" backoff; done
  fi
  [[ $is_gpu_seen == no ]] || add_to inference gpu inference-gpu
  [[ $is_user == yes ]] || install_tmpfiles
  is_systemd_here || return 0
  [[ $changed == no ]] || run "${systemctl[@]}" daemon-reload
}

install_unit() { # install_unit FILE NAME
  local text
  text=$(fill_in "$1")
  write_file 0644 "$(id -un)" "$(id -gn)" "$folder/units/$2" <<<"$text"
  write_file 0644 "$(id -un)" "$(id -gn)" "$unit_folder/$2" <<<"$text"
}

# What a unit has on some machines only, in a file of its own beside it.
add_to() { # add_to SERVICE NAME [FILE]
  local lines=$root/systemd/customhouse-${3:-$2}.conf
  [[ $2 != backoff ]] || lines=$root/systemd/customhouse-backoff.conf
  [[ ! -f $lines ]] || install_unit "$lines" "customhouse-$1.service.d/10-$2.conf"
}

install_tmpfiles() {
  local lines=$root/systemd/customhouse.tmpfiles
  [[ -f $lines ]] || return 0
  write_file 0644 root root /etc/tmpfiles.d/customhouse.conf < <(fill_in "$lines")
  command -v systemd-tmpfiles >/dev/null || return 0
  run_unless_done tmpfiles "$(sha256sum <"$lines")" systemd-tmpfiles --create /etc/tmpfiles.d/customhouse.conf
}

# A user's manager runs as that user already and refuses to become another.
fill_in() { # fill_in FILE
  local text drop='s/^//'
  [[ $is_user == no ]] || drop='/^# --- for the system.s manager only/,/^# --- end ---/d
    /^(User|Group|SupplementaryGroups)=/d; s/=multi-user\.target$/=default.target/'
  text=$(sed -E -e "s#@PREFIX@#$prefix#g; s#@USER@#$owner#g; s#@GROUP@#$group#g; s#@HOME@#$home#g; s#@ETC@#$etc#g" \
    -e "s#@RUN@#$run_dir#g" -e "$drop" "$1")
  [[ ! $text =~ @[A-Z]+@ ]] || die "$1: nobody fills in ${BASH_REMATCH[0]}"
  printf '%s\n' "$text"
}

# 0 where there is none.
find_systemd() {
  systemd_version=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p') || true
  systemd_version=${systemd_version:-0}
}

# systemd runs this machine, or this user's services.
is_systemd_here() {
  if [[ $is_user == yes ]]; then
    [[ -S ${XDG_RUNTIME_DIR:-/nowhere}/systemd/private ]]
  else
    [[ -d /run/systemd/system ]]
  fi
}

# The units that say themselves what wants them.
wanted_units() {
  local unit
  for unit in "$unit_folder"/customhouse*; do
    if [[ -f $unit ]] && grep -q '^\[Install\]' "$unit"; then basename "$unit"; fi
  done
}

# From here on it is the version's own command that acts: it backs up, migrates, switches the symlink, starts, looks
# whether all is well, and goes back if not. Then the units of the version before are put back, too.
activate() {
  local before options=() units=()
  before=$(current_version)
  mapfile -t units < <(wanted_units)
  if ((${#units[@]})) && { is_systemd_here || { [[ $is_user == no ]] && command -v systemctl >/dev/null; }; }; then
    run_unless_done enabled "${units[*]}" "${systemctl[@]}" --quiet enable "${units[@]}" # in a chroot it only links
  fi
  [[ $is_starting == yes ]] || options+=(--no-start)
  if [[ $before != "$version" ]]; then
    step "activation: ${before:+from $before }to $version"
    if ! CUSTOMHOUSE_HOME=$home CUSTOMHOUSE_CONFIG=$etc/customhouse.toml CUSTOMHOUSE_RUNTIME_DIR=$run_dir \
      change "$venv/bin/customhouse" release activate "$version" --prefix "$prefix" "${options[@]}"; then
      restore_units "$before"
      die "version $version could not be activated, see above; ${before:+$before is as it was}${before:-nothing runs}"
    fi
  elif [[ $is_starting == yes ]] && is_systemd_here; then
    "${systemctl[@]}" --quiet is-active customhouse.target || change "${systemctl[@]}" start customhouse.target
  fi
}

restore_units() { # restore_units VERSION
  local unit
  [[ -n $1 ]] || return 0
  while IFS= read -r unit; do
    run install -D -m 0644 "$prefix/versions/$1/units/$unit" "$unit_folder/$unit"
  done < <(cd "$prefix/versions/$1/units" && find . -type f -printf '%P\n')
  ! is_systemd_here || run "${systemctl[@]}" daemon-reload
}
