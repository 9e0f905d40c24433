/* Test the parent locator: its strings, what is refused, and which names
 * it gives.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#include <stdbool.h>

#include "include/byte-order.h"
#include "include/cleanup.h"
#include "include/testing.h"
#include "report/test-messages.h"
#include "vhdx/locator.h"
#include "vhdx/test-image.h"

#define LINKAGE "{83ED27E4-5A4A-4AF3-9B44-91AE3D9E0F0B}"
#define LINKAGE2 "00112233-4455-6677-8899-aabbccddeeff"

static uint8_t item[70000];
static size_t item_len;

/* Where the entry's fields are. */
#define ENTRY(i) (20 + 12 * (i))
#define KEY_AT(i) (ENTRY (i))
#define VALUE_AT(i) (ENTRY (i) + 4)
#define KEY_LEN(i) (ENTRY (i) + 8)
#define VALUE_LEN(i) (ENTRY (i) + 10)

static void
make (const struct test_vhdx_key *keys, unsigned nr)
{
  item_len = test_vhdx_locator (item, keys, nr);
}
#define MAKE(...)                                                       \
  do {                                                                  \
    static const struct test_vhdx_key keys_[] = { __VA_ARGS__ };        \
    make (keys_, sizeof keys_ / sizeof keys_[0]);                       \
  } while (0)

static void
make_simple (void)
{
  MAKE ({ "parent_linkage", LINKAGE }, { "relative_path", ".\\p.vhdx" });
}

/* From a copy of just that length, so that tools see reads behind it. */
static int
parse (struct vhdx_locator *l)
{
  CLEANUP_FREE uint8_t *copy = malloc (item_len ? item_len : 1);

  CHECK (copy != NULL);
  memcpy (copy, item, item_len);
  test_messages_forget ();
  errno = 0;
  return vhdx_locator_parse ("image", copy, item_len, l);
}

static void
check_refused (int err, const char *message)
{
  struct vhdx_locator l;

  CHECK (parse (&l) == -1 && errno == err);
  vhdx_locator_free (&l);
  CHECK (test_messages.nr_errors == 1);
  CHECK (strstr (test_messages.error, message) != NULL);
}

static void
test_parse (void)
{
  static const uint8_t guid[] =
    "\xe4\x27\xed\x83\x4a\x5a\xf3\x4a\x9b\x44\x91\xae\x3d\x9e\x0f\x0b";
  static const uint8_t guid2[] =
    "\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
  struct vhdx_locator l;

  MAKE ({ "volume_path", "\\\\?\\Volume{1}\\d\\p.vhdx" },
        { "unknown", "x" }, { "parent_linkage", LINKAGE },
        { "absolute_win32_path", "\\\\?\\c:\\p.vhdx" },
        { "parent_linkage2", LINKAGE2 }, { "Relative_Path", "no" },
        { "relative_path", "..\\p.vhdx" });
  CHECK (parse (&l) == 0);
  CHECK (memcmp (l.linkage.bytes, guid, 16) == 0);
  CHECK (l.has_linkage2 && memcmp (l.linkage2.bytes, guid2, 16) == 0);
  CHECK (strcmp (l.relative_path, "..\\p.vhdx") == 0);
  CHECK (strcmp (l.volume_path, "\\\\?\\Volume{1}\\d\\p.vhdx") == 0);
  CHECK (strcmp (l.absolute_path, "\\\\?\\c:\\p.vhdx") == 0);
  vhdx_locator_free (&l);

  make_simple ();
  CHECK (parse (&l) == 0);
  CHECK (!l.has_linkage2 && !l.volume_path && !l.absolute_path);
  vhdx_locator_free (&l);

  MAKE ({ "parent_linkage", LINKAGE });         /* the user names it */
  CHECK (parse (&l) == 0 && !l.relative_path);
  vhdx_locator_free (&l);
}

/* ---- UTF-16 */

/* The value of relative_path becomes these units. */
static void
put_units (const uint16_t *units, unsigned nr)
{
  make_simple ();
  store_le32 (item + VALUE_AT (1), item_len);
  store_le16 (item + VALUE_LEN (1), 2 * nr);
  for (unsigned i = 0; i < nr; ++i, item_len += 2)
    store_le16 (item + item_len, units[i]);
}
#define PUT_UNITS(...)                                                  \
  do {                                                                  \
    static const uint16_t units_[] = { __VA_ARGS__ };                   \
    put_units (units_, sizeof units_ / sizeof units_[0]);               \
  } while (0)

static void
check_text (const char *text)
{
  struct vhdx_locator l;

  CHECK (parse (&l) == 0);
  CHECK (strcmp (l.relative_path, text) == 0);
  vhdx_locator_free (&l);
}

static void
test_utf16 (void)
{
  PUT_UNITS ('a', 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff);
  check_text ("a\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80"
              "\xef\xbf\xbf");
  PUT_UNITS (0xd800, 0xdc00, 'x', 0xd83d, 0xde00, 0xdbff, 0xdfff);
  check_text ("\xf0\x90\x80\x80x\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf");

  PUT_UNITS ('a', 0xd800);              /* half a pair, at the end */
  check_refused (EINVAL, "UTF-16");
  PUT_UNITS (0xd800, 'a');
  check_refused (EINVAL, "UTF-16");
  PUT_UNITS (0xd800, 0xd800, 0xdc00);
  check_refused (EINVAL, "UTF-16");
  PUT_UNITS (0xdc00, 0xd800);           /* the wrong way round */
  check_refused (EINVAL, "UTF-16");
  PUT_UNITS ('a', 0, 'b');
  check_refused (EINVAL, "UTF-16");
  PUT_UNITS ('a', 0);
  check_refused (EINVAL, "UTF-16");
}

/* ---- what is refused */

static void
test_refused (void)
{
  for (item_len = 0; item_len < 20; ++item_len)
    check_refused (EINVAL, "only");
  make_simple ();
  item[3] ^= 1;
  check_refused (ENOTSUP, "of type");
  make_simple ();
  store_le16 (item + 18, 0);
  check_refused (EINVAL, "0 entries");
  make_simple ();
  store_le16 (item + 18, 257);
  check_refused (EINVAL, "257 entries");
  make_simple ();
  store_le16 (item + 18, 256);
  check_refused (EINVAL, "only");
  MAKE ({ "relative_path", "x" });
  check_refused (EINVAL, "no parent_linkage");
  MAKE ({ "parent_linkage", "{00000000-0000-0000-0000-000000000000}" },
        { "relative_path", "x" });
  check_refused (EINVAL, "parent_linkage");
  MAKE ({ "parent_linkage", LINKAGE "0" }, { "relative_path", "x" });
  check_refused (EINVAL, "parent_linkage is no GUID");
  MAKE ({ "parent_linkage", LINKAGE }, { "relative_path", "x" },
        { "parent_linkage2", "?" });
  check_refused (EINVAL, "parent_linkage2 is no GUID");
  MAKE ({ "parent_linkage", LINKAGE }, { "relative_path", "x" },
        { "relative_path", "y" });
  check_refused (EINVAL, "same key");
  MAKE ({ "parent_linkage", LINKAGE }, { "relative_path", "x" },
        { "z", "1" }, { "z", "1" });
  check_refused (EINVAL, "same key");
}

/* Any of the fields at any edge: refused, or in bounds. */
static void
test_bounds (void)
{
  static const struct { unsigned at, width; } fields[] = {
    { KEY_AT (0), 4 }, { VALUE_AT (0), 4 }, { KEY_LEN (0), 2 },
    { VALUE_LEN (0), 2 }, { KEY_AT (1), 4 }, { VALUE_AT (1), 4 },
    { KEY_LEN (1), 2 }, { VALUE_LEN (1), 2 },
  };
  const uint32_t values[] = { 0, 1, 3, 0xffff, 0xfffe, 0xfffffffe, 70 };
  struct vhdx_locator l;

  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; ++i) {
    for (size_t k = 0; k < sizeof values / sizeof values[0]; ++k) {
      uint8_t bytes[4];

      make_simple ();
      store_le32 (bytes, values[k]);
      memcpy (item + fields[i].at, bytes, fields[i].width);
      CHECK (parse (&l) == 0 || errno == EINVAL);
      vhdx_locator_free (&l);
    }
    make_simple ();             /* nothing has place or length 0 */
    memset (item + fields[i].at, 0, fields[i].width);
    check_refused (EINVAL, "not within");
  }
  make_simple ();               /* one byte too far, odd lengths */
  item_len--;
  check_refused (EINVAL, "not within");
  make_simple ();
  item[VALUE_LEN (1)]--;
  check_refused (EINVAL, "not within");
  make_simple ();
  item[KEY_LEN (0)]++;
  check_refused (EINVAL, "not within");
}

static void
test_many (void)
{
  static char names[256][4];
  struct test_vhdx_key keys[256] = {
    { "parent_linkage", LINKAGE }, { "relative_path", "x" },
  };
  struct vhdx_locator l;

  for (unsigned i = 2; i < 256; ++i) {
    snprintf (names[i], sizeof names[i], "%u", i);
    keys[i] = (struct test_vhdx_key) { names[i], names[i] };
  }
  make (keys, 256);
  CHECK (parse (&l) == 0);
  vhdx_locator_free (&l);
}

/* ---- names to look for */

/* The names, with a bar behind each. */
static void
check_candidates (const char *relative, const char *volume,
                  const char *absolute, const char *expected)
{
  static const struct image_path_map maps[] = {
    { "d:", "/mnt/d" }, { "{0a1b}", "/srv/volume" },
    { "UNC\\server\\share", "/net/share" },
  };
  struct vhdx_locator l = {
    .relative_path = (char *) relative, .volume_path = (char *) volume,
    .absolute_path = (char *) absolute,
  };
  char **list = vhdx_locator_candidates ("image", &l, maps, 3);
  char text[1000] = "";

  CHECK (list != NULL);
  for (unsigned i = 0; list[i]; ++i) {
    CHECK (i < 6 && strlen (text) + strlen (list[i]) + 2 < sizeof text);
    strcat (strcat (text, list[i]), "|");
    free (list[i]);
  }
  free (list);
  if (strcmp (text, expected) != 0)
    fprintf (stderr, "%s, expected %s\n", text, expected);
  CHECK (strcmp (text, expected) == 0);
}

static void
test_candidates (void)
{
  check_candidates (NULL, NULL, NULL, "");
  check_candidates (".\\p.vhdx", NULL, NULL, "p.vhdx|");
  check_candidates ("p.vhdx", NULL, NULL, "p.vhdx|");
  check_candidates ("..\\a b\\p.vhdx", NULL, NULL, "../a b/p.vhdx|p.vhdx|");
  check_candidates (".\\.\\.\\sub/p.vhdx", NULL, NULL, "sub/p.vhdx|p.vhdx|");
  check_candidates ("\\p.vhdx", NULL, NULL, "p.vhdx|");
  check_candidates ("/etc/p.vhdx", NULL, NULL, "etc/p.vhdx|p.vhdx|");
  check_candidates (NULL, NULL, "\\\\?\\c:\\dir\\p.vhdx", "p.vhdx|");
  check_candidates (NULL, NULL, "\\\\?\\D:\\dir\\p.vhdx",
                    "/mnt/d/dir/p.vhdx|p.vhdx|");
  check_candidates (NULL, NULL, "d:\\dir\\p.vhdx",
                    "/mnt/d/dir/p.vhdx|p.vhdx|");
  check_candidates (NULL, NULL, "\\\\?\\dd:\\p.vhdx", "p.vhdx|");
  check_candidates (NULL, "\\\\?\\Volume{0A1B}\\x\\p.vhdx", NULL,
                    "/srv/volume/x/p.vhdx|p.vhdx|");
  check_candidates (NULL, "\\\\?\\Volume{0a1b0}\\p.vhdx", NULL, "p.vhdx|");
  check_candidates (NULL, NULL, "\\\\?\\UNC\\server\\share\\d\\p.vhdx",
                    "/net/share/d/p.vhdx|p.vhdx|");
  /* In the order of the specification. */
  check_candidates (".\\r.vhdx", "\\\\?\\Volume{0a1b}\\v.vhdx",
                    "\\\\?\\d:\\a.vhdx",
                    "r.vhdx|/srv/volume/v.vhdx|/mnt/d/a.vhdx|v.vhdx|a.vhdx|");
  check_candidates ("..\\x\\r.vhdx", "\\\\?\\Volume{0a1b}\\v.vhdx",
                    "\\\\?\\d:\\a.vhdx",
                    "../x/r.vhdx|/srv/volume/v.vhdx|/mnt/d/a.vhdx|"
                    "r.vhdx|v.vhdx|a.vhdx|");
  check_candidates (".\\r.vhdx", "\\\\?\\Volume{9}\\v.vhdx",
                    "\\\\?\\d:\\r.vhdx", "r.vhdx|/mnt/d/r.vhdx|v.vhdx|");
}

static void
check_paths_text (const char *relative, const char *volume,
                  const char *absolute, const char *expected)
{
  const struct vhdx_locator l = {
    .relative_path = (char *) relative, .volume_path = (char *) volume,
    .absolute_path = (char *) absolute,
  };
  char *text = vhdx_locator_text ("image", &l);

  CHECK (text && strcmp (text, expected) == 0);
  free (text);
}

static void
test_paths_text (void)
{
  check_paths_text (NULL, NULL, NULL, "");
  check_paths_text (".\\r", NULL, NULL, "\".\\r\"");
  check_paths_text (NULL, "v", "a", "\"v\", \"a\"");
  check_paths_text ("r", "v", "a", "\"r\", \"v\", \"a\"");
}

int
main (void)
{
  test_parse ();
  test_utf16 ();
  test_refused ();
  test_bounds ();
  test_many ();
  test_candidates ();
  test_paths_text ();
  return EXIT_SUCCESS;
}
