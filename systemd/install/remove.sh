# shellcheck shell=bash
# ./install.sh --uninstall: takes away what systemd/install/system.sh made, by name. Sourced after that.
#
# shellcheck disable=SC2154,SC2034 # what install.sh and system.sh set

uninstall() {
  local unit pids
  pids=$(running_by_hand)
  [[ -z $pids || $dry_run == yes ]] || die "it runs by hand (process $pids): stop that first, then run this again"
  [[ $is_purging == no || $is_yes == yes || $dry_run == yes ]] || confirm_purge
  step "services: stopped and removed"
  for unit in "$unit_folder"/customhouse*.{target,timer,socket,service}; do
    [[ -f $unit ]] || continue
    ! is_systemd_here || change "${systemctl[@]}" --quiet disable --now "$(basename "$unit")"
    is_systemd_here || ! command -v systemctl >/dev/null || [[ $is_user == yes ]] ||
      change systemctl --quiet disable "$(basename "$unit")"
    change rm -f "$unit"
  done
  for unit in "$unit_folder"/customhouse-*.service.d/10-{backoff,gpu}.conf; do # what the operator adds there stays
    [[ ! -f $unit ]] || { change rm -f "$unit" && run rmdir --ignore-fail-on-non-empty "$(dirname "$unit")"; }
  done
  ! is_systemd_here || [[ $changed == no ]] || run "${systemctl[@]}" daemon-reload
  step "program: $prefix, $command_file"
  ! is_ours "$command_file" || change rm -f "$command_file"
  for unit in /etc/sysusers.d/customhouse.conf /etc/tmpfiles.d/customhouse.conf; do
    [[ $is_user == yes || ! -e $unit ]] || change rm -f "$unit"
  done
  # by name: who knows what else is in there
  for unit in current previous versions .install activation.json .activation.lock .current.new .previous.new; do
    [[ ! -e $prefix/$unit && ! -L $prefix/$unit ]] || change rm -rf "${prefix:?}/$unit"
  done
  [[ ! -d $run_dir ]] || change rm -rf "$run_dir"
  if [[ $is_purging == yes ]]; then
    purge
  else
    keep_state
  fi
  [[ ! -d $prefix ]] || [[ -n $(ls -A "$prefix") ]] || change rmdir "$prefix"
  [[ $changed == yes || $dry_run == yes ]] || say "  there was nothing to remove"
}

keep_state() {
  step "kept"
  [[ ! -d $home ]] || say "  $home: the database, the keys' pepper, the weights, the backups ($(du -sh "$home" | cut -f 1))"
  [[ ! -d $etc ]] || say "  $etc: the settings and the credentials"
  say "  Installing again goes on with them. To remove them too: --uninstall --purge"
}

purge() {
  step "state: removed for good"
  local path
  for path in "$home" "$etc"; do
    [[ ! -d $path ]] || change rm -rf "$path"
  done
  [[ $is_user == no ]] || return 0
  if [[ $(getent passwd "$owner" | cut -d : -f 6) == "$home" ]]; then change userdel "$owner"; fi
  if getent group "$group" >/dev/null; then change groupdel "$group"; fi
}

confirm_purge() {
  local word
  say "This removes the database with all accounts, verdicts and the ledger, the backups in $home/backups,"
  say "the weights, and $etc with its credentials. There is no way back. Type purge to go on:"
  read -r word || word=
  [[ $word == purge ]] || die "that was not the word: nothing was removed"
}
