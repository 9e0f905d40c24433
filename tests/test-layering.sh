# Rooms include only rooms to their left, and outside headers only where
# HACKING says.  Planted violations prove that this test can fail.
# SPDX-License-Identifier: BSD-3-Clause

. "$srcdir/functions.sh"

# Print the violations in source tree $1, one to a line.
violations () {
  (
    cd "$1"
    { find common plugins filters tests bench fuzz -name '*.[ch]' \
        2>/dev/null || :; } | sort | while read -r file; do
      sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*\(["<][^">]*\).*/\1/p' \
        "$file" | sed "s|^|$file |"
    done
  ) | awk '
    BEGIN {
      n = split ("include report source image 4 chain convert glue", row, " ")
      for (i = 1; i <= n; i++)
        rank[row[i]] = i
      split ("raw qcow qcow2 vhdx toy", driver, " ")
      for (i in driver)
        rank[driver[i]] = rank["4"]
      delete rank["4"]
    }

    function bad(why) {
      print file ": " name ": " why
    }

    # The toy driver and what is beside it are for tests only.
    function is_test() {
      return room == "toy" || file ~ /\/test-[^\/]*\.[ch]$/ || top ~ /^(tests|bench|fuzz)$/
    }

    function check_own(    slash, other) {
      if (name ~ /\.\.\//) {
        bad ("goes up the tree; name the room")
        return
      }
      slash = index (name, "/")
      if (slash == 0) {
        if (top == "common")
          bad ("names no room")
        return
      }
      other = substr (name, 1, slash - 1)
      if (! (other in rank))
        bad ("is in no room")
      else if (top == "common" && other != room &&
               rank[other] >= rank[room] &&
               ! (is_test() && rank[other] <= rank["qcow2"]))
        bad (room " may not include " other)
    }

    function check_outside() {
      if (name ~ /^nbdkit-/ &&
          file !~ /^(plugins|filters|common\/glue)\// &&
          file !~ /^common\/report\/(test-report-)?nbdkit\.c$/ &&
          file !~ /^common\/source\/next\.[ch]$/ &&
          file !~ /^tests\/[^\/]*-(plugin|filter)\.c$/)
        bad ("nbdkit is only for the doors")
      if (name == "libnbd.h" && file != "common/source/nbd.c" &&
          top !~ /^(tests|bench)$/)
        bad ("libnbd is only for common/source/nbd.c")
      if (name ~ /^(zlib|zstd|libdeflate|isa-l|igzip_lib)(\.h|\/)/ &&
          file !~ /^common\/image\/codec[^\/]*\.[ch]$/ && ! is_test())
        bad ("compression is only for common/image/codec")
      if (name ~ /^(gnutls\/|gcrypt\.h|nettle\/|openssl\/)/ &&
          file !~ /^common\/image\/(cipher|digest)[^\/]*\.[ch]$/)
        bad ("crypto is only for common/image/cipher and digest")
      if (name ~ /^uuid\// && file !~ /^common\/vhdx\//)
        bad ("libuuid is only for common/vhdx")
    }

    {
      file = $1
      name = substr ($2, 2)
      split (file, part, "/")
      top = part[1]
      room = part[2]
      if (top == "common" && ! (room in rank)) {
        if (! (file in told))
          bad (room " is no room that this test knows")
        told[file] = 1
        next
      }
      if (substr ($2, 1, 1) == "\"")
        check_own()
      else
        check_outside()
    }'
}

violations "$top_srcdir" > found
if [ -s found ]; then
  cat found >&2
  fail "layering violations"
fi

# The tree cannot have been overlooked.
[ -n "$(find "$top_srcdir/common/image" -name '*.h')" ] ||
  fail "no headers in common/image: is this the source tree?"

# plant FILE LINE: with LINE in FILE there must be one violation, in FILE.
plant () {
  rm -rf tree
  mkdir -p "tree/$(dirname "$1")"
  printf '#include <config.h>\n%s\n' "$2" > "tree/$1"
  violations tree > found
  [ "$(wc -l < found)" -eq 1 ] && grep -q "^$1: " found ||
    fail "not noticed: $2 in $1"
}

# permit FILE LINE: that is no violation.
permit () {
  rm -rf tree
  mkdir -p "tree/$(dirname "$1")"
  printf '#include <config.h>\n%s\n' "$2" > "tree/$1"
  violations tree > found
  [ ! -s found ] || fail "wrongly refused: $(cat found)"
}

plant common/include/checked.h '#include "report/report.h"'
plant common/report/stderr.c '#include "source/source.h"'
plant common/source/file.c '#include "image/format.h"'
plant common/image/read.c '#include "qcow2/qcow2.h"'
plant common/image/read.c '  #  include   "toy/toy.h"'
plant common/qcow2/l2.c '#include "raw/raw.h"'
plant common/qcow2/l2.c '#include "chain/chain.h"'
plant common/toy/load.c '#include "chain/chain.h"'
plant common/chain/chain.c '#include "glue/glue.h"'
plant common/qcow2/l2.c '#include "header.h"'
plant common/qcow2/l2.c '#include "../raw/raw.h"'
plant common/qcow2/l2.c '#include "nowhere/raw.h"'
plant common/attic/old.c '#include "include/checked.h"'
plant common/qcow2/l2.c '#include <nbdkit-plugin.h>'
plant common/report/stderr.c '#include <nbdkit-plugin.h>'
plant common/source/file.c '#include <libnbd.h>'
plant plugins/qcow2/nbdkit-qcow2-plugin.c '#include <libnbd.h>'
plant common/qcow2/l2.c '#include <zlib.h>'
plant common/image/read.c '#include <zstd.h>'
plant common/image/read.c '#include <gnutls/crypto.h>'
plant common/qcow2/l2.c '#include <uuid/uuid.h>'
plant common/qcow2/test-l2.c '#include "glue/glue.h"'

permit common/qcow2/l2.c '#include "image/format.h"'
permit common/qcow2/l2.c '#include "qcow2/header.h"'
permit common/chain/chain.c '#include "qcow2/qcow2.h"'
permit common/toy/load.c '#include "raw/raw.h"'
permit common/image/test-read.c '#include "toy/toy.h"'
permit common/report/nbdkit.c '#include <nbdkit-plugin.h>'
permit common/image/codec.c '#include <zlib.h>'
permit plugins/qcow2/nbdkit-qcow2-plugin.c '#include "glue/glue.h"'
permit plugins/qcow2/nbdkit-qcow2-plugin.c '#include <nbdkit-plugin.h>'
permit tests/client.c '#include <libnbd.h>'
