#!/usr/bin/env bash
# Headers, region tables and metadata that lie are refused at once, naming
# the file, the structure and what is wrong in it.  Nothing is changed.
#
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"
. "$srcdir/vhdx-lib.sh"

# Each line: a fault of vhdx-image.py, and what the message must match.
cat > rows <<'END'
identifier              not a VHDX file
headers-crc             header.*(65536|131072).*checksum
headers-signature       header.*signature
headers-none            header.*signature
headers-tie             sequence number 2
version-0               VHDX version 0
version-2               VHDX version 2
version-only-current    VHDX version 2
log-version             log version 1
log-unaligned           log at byte 1052672.*1 MiB
log-length-unaligned    log.*524288 bytes.*1 MiB
log-in-section          log.*header section
log-past-end            log.*not within the file
log-half-past-end       log.*not within the file
log-overflow            log.*not within the file
log-sign                log.*not within the file
log-length-zero         log.*length
log-too-long            log.*1 GiB
log-on-metadata         overlaps the log
log-on-bat              overlaps the log
log-on-block            BAT.*log
tables-crc              region tables.*checksum
tables-signature        region tables.*signature
table-count             2048 entries
table-count-huge        4294967295 entries
table-empty             region table.*no .*region
region-twice            region table.*(twice|same)
region-unknown-twice    region table.*(twice|same)
region-unknown-required region 05050505-0505-.* required
region-no-bat           no BAT region
region-no-metadata      no metadata region
region-unaligned        entry 0 of the region table.*1 MiB
region-length-unaligned entry 0 of the region table.*1 MiB
region-length-zero      entry 0 of the region table.* 0 bytes
region-in-section       entry 1 of the region table.*1 MiB
region-past-end         entry 1 of the region table.*not within the file
region-half-past-end    entry 0 of the region table.*not within the file
region-overflow         entry 1 of the region table.*not within the file
region-sign             entry 0 of the region table.*not within the file
region-overlap          region table.*overlap
region-on-log           overlaps the log
region-unknown-overlap  region table.*overlap
metadata-signature      metadata region.*begin
metadata-count          metadata table.*2048
metadata-long           metadata region.*135266304
metadata-users          1025 entries of the user
item-twice              metadata table.*same
item-user-twice         metadata table.*same
item-zero-guid          entry 5 of the metadata table
item-user-required      entry 5 of the metadata table.*user.*required
item-unknown-required   item 07070707-0707-.* required
item-incomplete         incomplete
item-in-table           metadata table.*byte 32768
item-at-table-end       metadata table.*byte 65535
item-outside            metadata table.*byte 1048576
item-across-end         metadata table.*byte 1048572
item-overflow           metadata table.*byte 4294967288
item-long               metadata table.*1048577 bytes
item-overlap            metadata table.*overlap
item-empty-with-place   entry 5 of the metadata table.*131072
item-no-parameters      metadata lack.*file parameters
item-no-size            metadata lack.*disk size
item-no-id              metadata lack.*disk id
item-no-logical         metadata lack.*logical sector
item-no-physical        metadata lack.*physical sector
item-short-parameters   file parameters.* 7 bytes
item-short-size         disk size.* 7 bytes
item-short-id           disk id.* 15 bytes
item-short-logical      logical sector.* 3 bytes
item-short-physical     physical sector.* 3 bytes
item-long-parameters    file parameters.* 9 bytes
item-long-size          disk size.* 9 bytes
item-long-id            disk id.* 17 bytes
item-long-logical       logical sector.* 5 bytes
item-long-physical      physical sector.* 5 bytes
block-zero              blocks of 0 bytes
block-small             blocks of 524288 bytes
block-large             blocks of 536870912 bytes
block-no-power          blocks of 3145728 bytes
sector-logical          logical sector size.* 1024
sector-logical-zero     logical sector size.* 0
sector-physical         physical sector size.* 8192
size-zero               disk size.* 0
size-over               disk size.* 70368744178176
size-huge               disk size.* 18446744073709551104
size-unaligned          disk size.* 3145727
size-unaligned-4096     disk size.* 3145216.*4096
bat-small               BAT.*1048576 bytes.*2097656
bat-small-child         BAT.*1048576 bytes.*1048832
END

mapfile -t names < <(cut -d ' ' -f 1 rows)
faults "${names[@]}"
truncate -s 3M base.vhdx                # no row comes so far
before="$(digest *.vhdx)"
while read -r name regex; do
  refused "$regex" $name.vhdx < /dev/null
  test "$(grep -c 'error:' refused.log)" -eq 1 || {
    cat refused.log >&2
    fail "$name: not one message"
  }
done < rows
test "$(digest *.vhdx)" = "$before" || fail "an image changed"

# Every fault that can be made is tried here, or among the entries of the
# BAT and of the locator.
"$PYTHON" "$srcdir/vhdx-image.py" faults | grep -v '^bat-' |
  grep -v '^locator-' > all
cut -d ' ' -f 1 rows | grep -v '^bat-' | sort > tried
LC_ALL=C sort all | diff - tried || fail "faults and rows differ"

# Files that are hardly there, or none.
make <<'END'
i = Image (3 * MIB)
i.fill ()
i.save ("good.vhdx")
END
same good.vhdx
for length in 0 7 8 65536 69631 131072 135168 196608 262144 327679 \
              1048576 2097151 3145727 4194303; do
  head -c $length good.vhdx > stub.vhdx
  refused_once '.' stub.vhdx
done
refused 'No such file' missing.vhdx
mkdir directory.vhdx
refused 'directory|regular|not a' directory.vhdx
mkfifo fifo.vhdx
refused 'regular|fifo|pipe|not a' fifo.vhdx

# Other formats are named as what they are not.
qemu-img create -q -f qcow2 other.vhdx 1M
refused_once 'not a VHDX' other.vhdx
