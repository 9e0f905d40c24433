# However many clients come at once, the image is converted once.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/qcow-fixup-lib.sh"
requires_filter log

disk disk.raw $((11 << 20))
tapdisk disk.raw one
cp one many

# writes LOGFILE: what the layer below the filter was asked to change.
writes () {
  sed -n 's/.* \(Write\|Zero\|Trim\|Flush\) .*offset=\(0x[0-9a-f]*\).*count=\(0x[0-9a-f]*\).*/\1 \2 \3/p; s/.* \(Flush\) .*/\1/p' "$1" |
    grep -v '^\.\.\.' | sort
}

serve_fixup -- --filter=log file one logfile=one.log
nbdinfo --can write "$uri"
stop_fixup
writes one.log > one.writes
grep -q Write one.writes || fail "the log has no writes: $(cat one.log)"
grep -q Flush one.writes || fail "the log has no flush"
same one one.converted

# 32 clients in 8 processes; each reads at once, and sees the new table.
serve_fixup -- --filter=log file many logfile=many.log
cat > client.py <<'EOF'
import nbd, sys, threading
uri, name = sys.argv[1:]
data = open(name, "rb").read(65536)
faults = []
gate = threading.Barrier(4)

def run():
    h = nbd.NBD()
    gate.wait()
    h.connect_uri(uri)
    if h.pread(len(data), 0) != data or not h.can_flush() or \
            h.is_read_only():
        faults.append("other bytes, or read-only")
    gate.wait()
    h.shutdown()

threads = [threading.Thread(target=run) for _ in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
sys.exit(", ".join(faults) or 0)
EOF
pids=()
for i in 1 2 3 4 5 6 7 8; do
  "$PYTHON" client.py "$uri" one.converted &
  pids+=($!)
done
for pid in "${pids[@]}"; do
  wait "$pid" || fail "a client saw something else"
done
stop_fixup
[ "$(grep -c ' Connect ' many.log)" -eq 32 ] || fail "not 32 connections"
writes many.log > many.writes
diff one.writes many.writes || fail "converted more than once"
same many one.converted
