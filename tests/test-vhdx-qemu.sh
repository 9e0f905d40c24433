#!/usr/bin/env bash
# Images that QEMU makes and writes: in every subformat, with every size of
# blocks and logs, cleanly closed and not.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

# Blocks of any size, logs of some.
n=0
for block in 1 2 4 8 16 32 64 128 256; do
  log=$((1 << n % 4))M
  n=$((n + 1))
  create made.vhdx $((block * 3 + 1))M -o block_size=${block}M,log_size=$log
  commands=("write -P 1 512k 1M" "write -P 2 $((block - 1))M 2M"
            "write -P 3 $((block * 3))M 1M" "write -z $((block * 2))M 64k")
  io made.vhdx "${commands[@]}"
  rm -f made.raw
  truncate -s $((block * 3 + 1))M made.raw
  args=()
  for c in "${commands[@]}"; do args+=(-c "$c"); done
  qemu-io -f raw "${args[@]}" made.raw > io.log
  quietly same made.vhdx
done

# Both subformats, with blocks that are zeroes by their state or not.
"$PYTHON" -c '
import sys
sys.stdout.buffer.write (b"".join (bytes ([n % 251 + 1]) * 4096 if n % 5
                                   else bytes (4096) for n in range (1280)))
' > src.raw
truncate -s 9M src.raw
for options in subformat=dynamic subformat=fixed \
               subformat=fixed,block_state_zero=off \
               subformat=dynamic,block_state_zero=off \
               subformat=dynamic,block_state_zero=on,log_size=4M; do
  for block in 1M 4M; do
    rm -f conv.vhdx
    qemu-img convert -q -f raw -O vhdx -o $options,block_size=$block \
             src.raw conv.vhdx
    oracle=src.raw quietly same conv.vhdx check=open
    create conv.vhdx 9M -o $options,block_size=$block
    io conv.vhdx 'write -P 5 1M 3M' 'write -P 6 8800k 100k'
    like_qemu conv.vhdx
    like_qemu conv.vhdx check=open
  done
done

# Sizes that are no multiple of anything but the sector.
for size in 512 1049088 10486272; do
  create odd.vhdx $size
  last=$(((size - 1) / 512 * 512))
  io odd.vhdx "write -P 9 $last 512"
  like_qemu odd.vhdx
done

# Written at random, in small pieces, by several.
create random.vhdx 48M -o block_size=2M
"$PYTHON" - > commands <<'END'
import random
rnd = random.Random (7)
for n in range (150):
    at = rnd.randrange (48 * 2048 - 64) * 512
    print ("aio_write -q -P %d %d %d" % (rnd.randrange (1, 256), at,
                                         rnd.randrange (1, 64) * 512))
    if n % 40 == 39:
        print ("aio_flush")
print ("aio_flush")
END
qemu-io -f vhdx random.vhdx < commands > io.log
like_qemu random.vhdx

# Not closed: the log is not empty, or has just been begun.  What QEMU reads
# from a copy that it may replay is what we read from the file as it is.
for n in 1 2 3 4 5 6; do
  create killed.vhdx 64M -o block_size=1M
  io killed.vhdx 'write -P 1 0 3M'
  args=()
  for ((k = 0; k < n; k++)); do
    args+=(-c "write -P $((k + 2)) $((k * 5 + 1))M 1500k")
  done
  status=0
  (ulimit -c 0
   exec qemu-io -f vhdx "${args[@]}" -c flush -c abort killed.vhdx) \
    > io.log 2>&1 || status=$?
  test $status -eq 134 || fail "qemu-io: status $status, not SIGABRT"
  before="$(digest killed.vhdx)"
  cp --sparse=always killed.vhdx replayed.vhdx
  qemu-io -f vhdx -c 'read 0 512' replayed.vhdx > io.log
  rm -f want.raw
  qemu-img convert -q -f vhdx -O raw replayed.vhdx want.raw
  oracle=want.raw same killed.vhdx 2> killed.log
  test "$(digest killed.vhdx)" = "$before" || fail "killed.vhdx changed"
done

# A program that reads through us gets the same as one that reads the file.
serve random.vhdx -- 'nbdcopy "$uri" copy.raw'
qemu-img compare -q -f vhdx -F raw random.vhdx copy.raw
