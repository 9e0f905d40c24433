# Over each of nbdkit's plugins that serve an image from elsewhere: what they
# can write is converted, where it lies; the rest is read as if it were.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-fixup-lib.sh"

disk disk.raw $((11 << 20))
tapdisk disk.raw image

# reads_disk: QEMU finds the disk in what the filter serves.
reads_disk () {
  rm -f out.raw
  qemu-img convert -f qcow -O raw "$uri" out.raw
  cmp out.raw disk.raw || fail "QEMU reads another disk"
}

# converts IMAGE SERVED-BY...: a client that may write has it converted.
converts () {
  local image=$1
  shift
  serve_fixup -- "$@"
  reads_disk
  nbdinfo --can write "$uri" || fail "over $1: $(cat log)"
  stop_fixup
  same "$image" image.converted
}

# shows IMAGE SERVED-BY...: it is converted for the reader only.
shows () {
  local image=$1
  shift
  fingerprint "$image" > before
  serve_fixup -- "$@"
  reads_disk
  ! nbdinfo --can write "$uri" || fail "over $1 it can be written"
  stop_fixup
  fingerprint "$image" | diff before - || fail "over $1 the file changed"
}

requires_plugin nbd
cp image remote
start_nbdkit -P remote.pid -U remote.sock file remote
converts remote nbd socket="$tmpdir/remote.sock"
stop_nbdkit remote.pid
fingerprint remote > before
rm remote.sock
start_nbdkit -P remote.pid -U remote.sock file remote
converts remote nbd socket="$tmpdir/remote.sock"
stop_nbdkit remote.pid
fingerprint remote | diff before - || fail "it was converted twice"

# It cannot flush.
requires_plugin split
head -c 5000 image > part1
tail -c +5001 image > part2
shows part1 split part1 part2

requires_plugin curl
shows image curl url="file://$tmpdir/image" protocols=file

# sshd is not among the packages that the tests ask for, as installing it
# would start a server.
sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd || :)
if [ -z "$sshd" ] || ! nbdkit ssh --version >/dev/null 2>&1; then
  echo "over ssh: not run, there is no sshd or no ssh plugin"
  exit 0
fi
ssh-keygen -q -t ed25519 -N '' -f host_key
ssh-keygen -q -t ed25519 -N '' -f user_key
port=$("$PYTHON" -c 'import socket; s = socket.socket ()
s.bind (("127.0.0.1", 0)); print (s.getsockname ()[1])')
cat > sshd.conf <<END
ListenAddress 127.0.0.1
Port $port
HostKey $tmpdir/host_key
PidFile $tmpdir/sshd.pid
AuthorizedKeysFile $tmpdir/user_key.pub
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
END
"$sshd" -t -f "$tmpdir/sshd.conf" || {
  echo "over ssh: not run, sshd does not work here"
  exit 0
}
"$sshd" -f "$tmpdir/sshd.conf" -E "$tmpdir/sshd.log" || {
  cat sshd.log >&2
  fail "sshd does not start"
}
wait_until [ -s sshd.pid ]
cleanup_fn kill "$(cat sshd.pid)"
cp image far
converts far ssh host=127.0.0.1 port="$port" path="$tmpdir/far" \
         user="$(id -un)" identity="$tmpdir/user_key" \
         verify-remote-host=false
