# shellcheck shell=bash
# Sourced by install.sh: installing out of a bundle, with no network at all. bash, coreutils, awk, sed and tar only,
# because there is no Python of ours yet; ssh-keygen where a signature is there to be looked at. appliance/bundle/ makes
# the file and refuses the same things.
#
# Of install.sh it takes: die, say, step, show, state, device, dry_run.

# shellcheck disable=SC2154,SC2034 # what install.sh sets, and what it reads
bundle_signers= # an allowed_signers file: one of those must have signed it
bundle_source=  # the tree that was inside
bundle_wheels=  # all that pip may take from
bundle_weights= # a folder a model
bundle_version=
bundle_pythons=() # the versions that it has wheels for

# Sets the variables above. Whatever is wrong with the file is said in one sentence, and then nothing was installed.
# From here on pip reaches no index, whatever its configuration says.
use_bundle() { # use_bundle FILE [FOLDER-TO-UNPACK-INTO]
  local file=$1 folder=${2:-$state/bundle}
  local half=$folder.half
  [[ -f $file && -r $file ]] || die "--bundle: $file: there is no such file, or it cannot be read"
  [[ -z $bundle_signers || -r $bundle_signers ]] || die "$bundle_signers: there is no such file of signers"
  step "bundle: $(basename "$file")"
  rm -rf "$half"
  mkdir -p "$half" || die "$half cannot be made: is the disk full, or not yours?"
  # In a process of its own, so that whatever ends it, the half that it made is removed.
  if ! (take_bundle "$file" "$half"); then
    rm -rf "$half"
    exit 1
  fi
  read_bundle "$half"
  if [[ $bundle_device == cpu && $device == auto ]]; then
    device=cpu
  elif [[ $bundle_device == cpu && $device == cuda ]]; then
    rm -rf "$half"
    die "--cuda: this bundle was made without the CUDA libraries; make one by: customhouse bundle create --device cuda"
  fi
  if [[ $dry_run == yes ]]; then
    rm -rf "$half"
    say "it is whole, and for this machine; it would be unpacked into $folder"
  else
    rm -rf "$folder"
    mv "$half" "$folder" || die "$folder cannot be replaced"
  fi
  bundle_source=$folder/source bundle_wheels=$folder/wheels bundle_weights=$folder/weights
  seal_pip
}

# The wheels and weights are in their places: what is left of them here is room. The source stays, it runs from there.
drop_bundle() {
  [[ $dry_run == yes || -z $bundle_source ]] || rm -rf "$bundle_wheels" "$bundle_weights" "${bundle_weights%/*}/models"
}

# Whether the bundle in use, if one is, has wheels for this Python.
python_fits_bundle() { # python_fits_bundle PYTHON
  local version each
  [[ -n $bundle_version ]] || return 0
  version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || return 1
  for each in "${bundle_pythons[@]}"; do [[ $each != "$version" ]] || return 0; done
  return 1
}

# Installs the weights that came along: each by the digest in its manifest, which customhouse itself checks.
bring_weights() { # bring_weights CUSTOMHOUSE-COMMAND…
  local folder name
  for folder in "$bundle_weights"/*/; do
    [[ -d $folder ]] || continue # a dry run unpacks nothing
    name=$(basename "$folder")
    # Digests of weights whose manifest gives none were recorded where the bundle was made.
    [[ ! -f $bundle_weights/lock.toml || -e ${CUSTOMHOUSE_HOME-$state}/weights/lock.toml ]] ||
      { mkdir -p "${CUSTOMHOUSE_HOME-$state}/weights" &&
        cp "$bundle_weights/lock.toml" "${CUSTOMHOUSE_HOME-$state}/weights/lock.toml"; }
    "$@" models import --model "$name" "$folder" || die "the weights of $name could not be installed (see above)"
  done
}

# --- taking it apart --------------------------------------------------------------------------------------------------

# Everything that may be refused, in the order in which it is cheapest: names, the signature, this machine, room; only
# then its bytes.
take_bundle() { # take_bundle FILE INTO
  local file=$1 into=$2
  list_members "$file" >"$into/members" || die "$file is no bundle, or is truncated; copy it here again"
  take_head "$file" "$into"
  check_names "$file" "$into"
  check_signature "$file" "$into"
  check_fit "$file" "$into"
  check_room "$file" "$into"
  say "unpacking $(wc -l <"$into/members") files, and comparing each with its digest"
  tar -xf "$file" -C "$into" --no-same-owner --no-same-permissions 2>"$into/tar.log" ||
    { grep -q 'No space left' "$into/tar.log" && die "the disk is full: $into; make room and run this again"; } ||
    die "$file could not be unpacked: it is truncated, or the disk is full: $(tail -n 1 "$into/tar.log")"
  (cd "$into" && sha256sum --check --strict --quiet SHA256SUMS) >"$into/sums.log" 2>&1 ||
    die "$file is damaged, or was changed: $(head -n 1 "$into/sums.log")"
  take_source "$file" "$into"
  compgen -G "$into/wheels/llama_cpp_python-*.whl" >/dev/null || die "$file has no wheel of llama-cpp-python"
  rm -f "$into/tar.log" "$into/sums.log" "$into/members" "$into/source.tar.gz"
}

# A line a member: its kind, its size, its name. Of a name with a space, a tab or a line feed only a part, or escaped:
# check_names knows none of those.
list_members() {
  tar --numeric-owner -tvf "$1" 2>/dev/null |
    awk '{ size += $3; print substr($1, 1, 1), $3, $6 (NF > 6 ? " more" : "") } END { exit NR == 0 }' &&
    tar -tf "$1" >/dev/null 2>&1
}

take_head() { # take_head FILE INTO
  local first
  first=$(head -n 2 "$2/members" | awk '{ print $1 $3 }' | tr '\n' ' ')
  [[ $first == '-manifest.json -SHA256SUMS ' ]] ||
    die "$1 is no bundle of Customhouse: it does not begin with manifest.json and SHA256SUMS"
  tar -xf "$1" -C "$2" --no-same-owner --no-same-permissions --occurrence=1 manifest.json SHA256SUMS 2>/dev/null ||
    die "$1 is truncated; copy it here again"
  # awk, because sha256sum would look for all the others too
  [[ $(sha256sum <"$2/manifest.json" | head -c 64) == "$(awk '$2 == "manifest.json" { print $1 }' "$2/SHA256SUMS")" ]] ||
    die "$1: manifest.json is not as SHA256SUMS says: it is damaged, or was changed"
  [[ $(manifest_value "$2" format) == 1 ]] ||
    die "$1 has a format that this install.sh does not know: use the one inside it (tar -xf FILE install.sh systemd)"
}

# Plain names, plain files, each once, and those that SHA256SUMS names: nothing lands outside the folder.
check_names() { # check_names FILE INTO
  local wrong
  wrong=$(awk '
    function refuse(why) { if (!said) print why; said = 1 }
    { name = FILENAME ~ /SHA256SUMS$/ ? substr($0, 67) : substr($0, length($1) + length($2) + 3) }
    name !~ /^[A-Za-z0-9_][A-Za-z0-9._+@=-]*(\/[A-Za-z0-9_][A-Za-z0-9._+@=-]*)*$/ {
      refuse("the name " name " points outside it, or is no plain name"); next }
    FILENAME ~ /SHA256SUMS$/ {
      if ($0 !~ /^[0-9a-f]+  / || index($0, "  ") != 65 || name in digest) refuse("SHA256SUMS is damaged")
      digest[name] = 1; next }
    $1 != "-" { refuse(name " is no plain file") }
    name in seen { refuse(name " is in it twice") }
    { seen[name] = 1 }
    name != "SHA256SUMS" && name != "SHA256SUMS.sig" && !(name in digest) { refuse(name " is not named in SHA256SUMS") }
    END { for (name in digest) if (!(name in seen)) refuse(name " is missing from it") }
  ' "$2/SHA256SUMS" "$2/members")
  [[ -z $wrong ]] || die "$1 is damaged, or was changed: $wrong"
}

check_signature() { # check_signature FILE INTO
  local name key given=(-n customhouse-bundle -s "$2/SHA256SUMS.sig")
  if ! grep -q ' SHA256SUMS.sig$' "$2/members"; then
    [[ -z $bundle_signers ]] || die "$1 is not signed, and a signature by one of $bundle_signers is asked for"
    say "it is not signed: its digests show that it is undamaged, and not who made it"
    return
  fi
  tar -xf "$1" -C "$2" --no-same-owner --no-same-permissions --occurrence=1 SHA256SUMS.sig 2>/dev/null ||
    die "$1 is truncated; copy it here again"
  if ! command -v ssh-keygen >/dev/null; then
    [[ -z $bundle_signers ]] || die "ssh-keygen is needed to check who signed $1: apt install openssh-client"
    say "it is signed, and nobody checked by whom: there is no ssh-keygen here"
    return
  fi
  if [[ -z $bundle_signers ]]; then
    key=$(ssh-keygen -Y check-novalidate "${given[@]}" <"$2/SHA256SUMS" 2>/dev/null) ||
      die "$1: its signature is of something else, or damaged; do not install it"
    say "signed by the key ${key##* }, which was compared with no list of yours (--signers FILE)"
    return
  fi
  while IFS= read -r name; do
    if ssh-keygen -Y verify "${given[@]}" -f "$bundle_signers" -I "$name" <"$2/SHA256SUMS" >/dev/null 2>&1; then
      say "signed by $name"
      return
    fi
  done < <(ssh-keygen -Y find-principals -s "$2/SHA256SUMS.sig" -f "$bundle_signers" 2>/dev/null)
  die "$1 is signed by none of $bundle_signers, or what it says is not what was signed; do not install it"
}

check_fit() { # check_fit FILE INTO
  local platform name flags lacking=() minor have
  read_bundle "$2"
  platform=$(manifest_value "$2" platform)
  [[ $platform == "linux_$(uname -m)" ]] || die "$1 is for $platform, and this machine is linux_$(uname -m)"
  for name in python3 "${bundle_pythons[@]/#/python}"; do
    if command -v "$name" >/dev/null && python_fits_bundle "$name"; then name= && break; fi
  done
  [[ -z $name ]] || die "$1 has wheels for Python ${bundle_pythons[*]}, and none of those is here (python3 is: $(
    python3 --version 2>&1 || true
  )); install one of them, or make the bundle with --python"
  minor=$(manifest_value "$2" glibc)
  have=$(getconf GNU_LIBC_VERSION 2>/dev/null) || have=
  [[ -z $have ]] || ((${have##*.} >= ${minor##*.})) ||
    die "$1 has wheels that need glibc $minor or later, and this machine has ${have##* }"
  flags=" $(sed -n '/^flags/ { s/.*: *//p; q }' /proc/cpuinfo) "
  for name in $(manifest_list "$2" cpu_flags); do
    [[ $flags == *" $name "* ]] || lacking+=("$name")
  done
  ((${#lacking[@]} == 0)) || die "$1: its llama.cpp was compiled for a processor with ${lacking[*]}, which this one
  lacks. Make the bundle on a machine like this one, or with a portable wheel (customhouse bundle create --help)"
}

check_room() { # check_room FILE INTO
  local need free
  need=$(awk '{ size += $2 } END { printf "%d", size / 1048576 + 128 }' "$2/members")
  free=$(df -Pm "$2" | awk 'NR == 2 { print $4 }')
  ((free >= need)) || die "the disk is full: unpacking $1 takes $need MB, and $2 has $free MB free"
}

# The tree lies in an archive of its own, whose digest was right; a bundle that is not signed is no reason to trust it.
take_source() { # take_source FILE INTO
  local wrong
  wrong=$(tar --numeric-owner -tvzf "$2/source.tar.gz" 2>/dev/null |
    awk '{ name = substr($0, index($0, $6)) } $1 !~ /^[-d]/ || name ~ /^\// || name ~ /(^|\/)\.\.(\/|$)/ { print name; exit }')
  [[ -z $wrong ]] || die "$1 was changed: its source has $wrong, which is no plain file inside it"
  mkdir "$2/source"
  tar -xzf "$2/source.tar.gz" -C "$2/source" --no-same-owner 2>/dev/null && [[ -f $2/source/pyproject.toml ]] ||
    die "the source in $1 could not be unpacked: is the disk full?"
}

# --- what it says -----------------------------------------------------------------------------------------------------

read_bundle() { # read_bundle FOLDER
  bundle_version=$(manifest_value "$1" version)
  bundle_device=$(manifest_value "$1" device)
  mapfile -t bundle_pythons < <(manifest_list "$1" pythons)
  [[ $bundle_version =~ ^[0-9][0-9A-Za-z.+-]*$ && ${#bundle_pythons[@]} -gt 0 ]] ||
    die "the manifest of the bundle is damaged"
}

# The manifest is JSON with a field a line and one space before those of the top, as contents.py writes it.
manifest_value() { sed -n "s/^ \"$2\": \"\\{0,1\\}\\([^\",]*\\)\"\\{0,1\\},\\{0,1\\}\$/\\1/p" "$1/manifest.json" | head -n 1; }

manifest_list() { sed -n "/^ \"$2\": \\[\$/,/^ \\]/ s/^  \"\\(.*\\)\",\\{0,1\\}\$/\\1/p" "$1/manifest.json"; }

# pip of an operator may be told of indexes by files and by variables: neither is asked now.
seal_pip() {
  local name
  for name in "${!PIP_@}"; do unset "$name"; done
  export PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_FIND_LINKS=$bundle_wheels PIP_DISABLE_PIP_VERSION_CHECK=1
  export CUSTOMHOUSE_WHEELS=$bundle_wheels
}
