/* Tests of chains, with a format made for that: a text that says what the
 * image refers to.
 *
 *   FAKE
 *   backing=NAME
 *   format=NAME
 *   data=NAME
 *
 * A second format begins with MUTE and cannot record "format".
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chain/chain.h"
#include "chain/probe.h"
#include "include/checked.h"
#include "include/cleanup.h"
#include "raw/raw.h"

#define DISK_LEN 65536
#define SNAPSHOT_LEN 4096

/* ---- the format */

static bool
fake_probe (const uint8_t *head, size_t head_len, uint64_t len)
{
  (void) len;
  return head_len >= 5 && memcmp (head, "FAKE\n", 5) == 0;
}

static bool
mute_probe (const uint8_t *head, size_t head_len, uint64_t len)
{
  (void) len;
  return head_len >= 5 && memcmp (head, "MUTE\n", 5) == 0;
}

/* The value of "key=" in the text, or NULL. */
static char *
value_of (const char *text, const char *key)
{
  const char *p = strstr (text, key);

  if (p == NULL)
    return NULL;
  p += strlen (key);
  return strndup (p, strcspn (p, "\n"));
}

static unsigned nr_opened;      /* images */

static int
fake_open (struct image *img)
{
  char text[FORMAT_PROBE_LEN + 1] = "";
  size_t len = MIN (source_len (img->source), sizeof text - 1);

  nr_opened++;
  if (source_pread (img->source, text, len, 0) == -1)
    return -1;
  if (!img->format->probe ((uint8_t *) text, len, len)) {
    fprintf (stderr, "error: %s: does not begin with %s\n", img->name,
             img->format->cannot_record_backing_format ? "MUTE" : "FAKE");
    errno = EINVAL;
    return -1;
  }
  if (img->wishes.snapshot && strcmp (img->wishes.snapshot, "s") != 0) {
    fprintf (stderr, "error: %s: there is no such snapshot\n", img->name);
    errno = ENOENT;
    return -1;
  }
  img->len = img->wishes.snapshot ? SNAPSHOT_LEN : DISK_LEN;
  img->unit = img->zero_unit = 512;
  img->backing_name = value_of (text, "\nbacking=");
  img->wants_backing = img->backing_name != NULL;
  img->backing_format = value_of (text, "\nformat=");
  img->data_file_name = value_of (text, "\ndata=");
  img->wants_data_file = img->data_file_name != NULL;
  return image_make_cache (img, 512);
}

/* Data is in the data file, everything else in the backing image. */
static ssize_t
fake_lookup (struct image *img, uint64_t guest, uint64_t len,
             struct extent *ext, size_t max)
{
  assert (max > 0);
  ext[0] = (struct extent) { .type = EXTENT_BACKING, .len = len };
  if (img->wants_data_file) {
    ext[0].type = EXTENT_DATA;
    ext[0].src = img->data_source;
    ext[0].host = guest;
  }
  return 1;
}

/* The only one is called "s". */
static int
fake_snapshots (struct image *img, snapshot_add add, void *opaque)
{
  const struct snapshot_info info = { .id = "1", .name = "s" };

  (void) img;
  return add (opaque, &info) == -1 ? -1 : 0;
}

static const struct format fake_format = {
  .name = "fake",
  .probe = fake_probe,
  .open = fake_open,
  .snapshots = fake_snapshots,
  .lookup = fake_lookup,
};

static const struct format mute_format = {
  .name = "mute",
  .cannot_record_backing_format = true,
  .probe = mute_probe,
  .open = fake_open,
  .lookup = fake_lookup,
};

static const struct format *const formats[] = {
  &raw_format, &fake_format, &mute_format, NULL
};

/* ---- files */

static char dir[] = "/tmp/test-chain-XXXXXX";
static char messages[8192];     /* what the last attempt reported */

/* Write a file in the test's directory. */
__attribute__ ((format (printf, 2, 3)))
static void
put (const char *name, const char *fmt, ...)
{
  FILE *fp = fopen (name, "w");
  va_list args;

  assert (fp);
  va_start (args, fmt);
  vfprintf (fp, fmt, args);
  va_end (args);
  assert (fclose (fp) == 0);
}

/* Absolute name; valid for the life of the test. */
static const char *
full (const char *name)
{
  static char *names[32];
  char *path;
  size_t i;

  assert (asprintf (&path, "%s/%s", dir, name) >= 0);
  for (i = 0; names[i]; i++)
    if (strcmp (names[i], path) == 0) {
      free (path);
      return names[i];
    }
  assert (i + 1 < sizeof names / sizeof names[0]);
  return names[i] = path;
}

static struct chain_settings
settings_for (const char *file)
{
  return (struct chain_settings) {
    .format = &fake_format, .formats = formats, .file = full (file),
    .fd = -1, .lock = SOURCE_LOCK_ON, .cache_size = 1 << 20,
  };
}

/* Open, and catch what is reported. */
static struct chain *
try_open (const struct chain_settings *set)
{
  int saved = dup (STDERR_FILENO);
  int fd = open (full ("messages"), O_RDWR | O_CREAT | O_TRUNC, 0600);
  struct chain *chain;
  ssize_t n;
  int err;

  assert (saved >= 0 && fd >= 0);
  assert (dup2 (fd, STDERR_FILENO) >= 0);
  errno = 0;
  chain = chain_open (set);
  err = errno;
  assert (dup2 (saved, STDERR_FILENO) >= 0);
  close (saved);
  n = pread (fd, messages, sizeof messages - 1, 0);
  assert (n >= 0);
  messages[n] = '\0';
  close (fd);
  errno = err;
  return chain;
}

static void
expect_said (const char *text)
{
  if (strstr (messages, text) == NULL) {
    fprintf (stderr, "expected: %s\ngot: %s", text, messages);
    abort ();
  }
}

static void
expect_refused (const struct chain_settings *set, int err, const char *text)
{
  assert (try_open (set) == NULL);
  if (errno != err)
    fprintf (stderr, "%s: errno %d, not %d\n%s", set->file, errno, err,
             messages);
  assert (errno == err);
  expect_said (text);
  expect_said (set->file);
}

/* How many layers it has when it opens. */
static size_t
depth_of (const struct chain_settings *set)
{
  struct chain *chain = try_open (set);
  size_t n;

  if (chain == NULL)
    fprintf (stderr, "%s", messages);
  assert (chain);
  assert (messages[0] == '\0');
  n = chain->nr_layers;
  chain_close (chain);
  return n;
}

/* The first byte of the disk. */
static char
first_byte (const struct chain_settings *set)
{
  struct chain *chain = try_open (set);
  char c;

  if (chain == NULL)
    fprintf (stderr, "%s", messages);
  assert (chain);
  assert (image_read (chain_top (chain), &c, 1, 0) == 0);
  chain_close (chain);
  return c;
}

/* ---- tests */

static void
test_simple (void)
{
  struct chain_settings set = settings_for ("top");

  put ("top", "FAKE\nbacking=base\nformat=raw\n");
  put ("base", "base data");
  assert (depth_of (&set) == 2);
  assert (first_byte (&set) == 'b');
  set.backing = CHAIN_BACKING_NONE;
  assert (depth_of (&set) == 1);
  assert (first_byte (&set) == 0);

  set = settings_for ("missing");
  expect_refused (&set, ENOENT, "No such file");
  set = settings_for ("base");
  expect_refused (&set, EINVAL, "does not begin with FAKE");
}

/* Half of the cache is the top's.  Nothing is parsed twice for that. */
static void
test_shares (void)
{
  struct chain_settings set = settings_for ("top");
  struct chain *chain;
  struct image *img;

  put ("top", "FAKE\nbacking=middle\nformat=fake\n");
  put ("middle", "FAKE\nbacking=base\nformat=fake\n");
  put ("base", "FAKE\n");
  set.cache_size = 16 << 20;
  nr_opened = 0;
  chain = try_open (&set);
  assert (chain && nr_opened == 3);
  img = chain_top (chain);
  assert (img->cache_limit == 8 << 20);
  for (img = img->backing; img; img = img->backing)
    assert (img->cache_limit == 4 << 20);
  chain_close (chain);
}

/* What the user says goes before what the image says. */
static void
test_user (void)
{
  struct chain_settings set = settings_for ("top");

  assert (mkdir ("other", 0700) == 0);
  put ("other/.base", "other data");
  put ("top", "FAKE\nbacking=nbd:x\nformat=raw\n");
  expect_refused (&set, EPERM, "backing=PATH");
  set.backing = CHAIN_BACKING_PATH;
  set.backing_path = full ("other/.base");
  assert (first_byte (&set) == 'o');
  set.backing_format = "fake";
  expect_refused (&set, EINVAL, "does not begin with FAKE");
  set.backing_format = "nonesuch";
  expect_refused (&set, ENOTSUP, "nonesuch");

  put ("top", "FAKE\n");
  set.backing_format = "raw";
  expect_refused (&set, EINVAL, "does not have a backing file");
  set.backing_path = full ("top");
  expect_refused (&set, ELOOP, "loop");
  set = settings_for ("top");
  set.backing_format = "raw";
  expect_refused (&set, EINVAL, "has no backing file");
}

static void
test_formats (void)
{
  struct chain_settings set = settings_for ("top");

  put ("top", "FAKE\nbacking=base\n");
  put ("base", "just data");
  assert (first_byte (&set) == 'j');
  put ("base", "FAKE\n");
  expect_refused (&set, EINVAL, "backing-format=");
  expect_said ("looks like fake");
  set.backing_format = "raw";
  assert (first_byte (&set) == 'F');
  set.backing_format = "fake";
  assert (first_byte (&set) == 0);

  /* Raw on the user's or the image's word is raw, whatever is in it. */
  put ("top", "FAKE\nbacking=base\nformat=raw\n");
  set.backing_format = NULL;
  assert (first_byte (&set) == 'F');

  /* The word is for the top's base only. */
  put ("top", "FAKE\nbacking=base\nformat=fake\n");
  put ("base", "FAKE\nbacking=base2\n");
  put ("base2", "FAKE\n");
  set.backing_format = "fake";
  expect_refused (&set, EINVAL, "qemu-img rebase");
  put ("base2", "KDMV");
  expect_refused (&set, EINVAL, "looks like vmdk");
  put ("base2", "KDM");
  assert (depth_of (&set) == 3);
  put ("top", "FAKE\nbacking=base\nformat=vmdk\n");
  set.backing_format = NULL;
  expect_refused (&set, ENOTSUP, "\"vmdk\"");
  expect_said ("what can be read is raw, fake, mute");
  put ("top", "FAKE\nbacking=base\nformat=\033[31mq\a\n");
  expect_refused (&set, ENOTSUP, "\"?[31mq?\"");
}

/* Where the format has no place for it the base is what it looks like, but
 * below a base that was found out in that way everything must be said.
 */
static void
test_mute_formats (void)
{
  struct chain_settings set = settings_for ("top");

  set.format = &mute_format;
  put ("top", "MUTE\nbacking=m1\n");
  put ("m1", "just data");
  assert (first_byte (&set) == 'j');
  put ("m1", "KDMV");
  expect_refused (&set, EINVAL, "looks like vmdk");
  set.backing_format = "raw";
  assert (first_byte (&set) == 'K');
  set.backing_format = NULL;

  put ("m1", "FAKE\nbacking=m2\nformat=mute\n");
  put ("m2", "MUTE\nbacking=m3\n");
  put ("m3", "FAKE\nbacking=m4\n");
  put ("m4", "raw");
  /* m1 and m3 were found out, but m2 was said. */
  assert (depth_of (&set) == 5);
  put ("m4", "FAKE\n");
  expect_refused (&set, EINVAL, "m3: does not record");
  expect_said ("qemu-img rebase");

  put ("m1", "MUTE\nbacking=m2\n");
  put ("m2", "raw");
  assert (depth_of (&set) == 3);
  put ("m2", "MUTE\n");
  expect_refused (&set, EINVAL, "m1: does not record");
  expect_said ("looks like mute");
  expect_said ("top image's own backing file with backing-format=");
  set.backing_format = "mute";
  assert (depth_of (&set) == 3);

  put ("m2", "MUTE\nbacking=m3\n");
  put ("m3", "MUTE\n");
  expect_refused (&set, EINVAL, "m2: does not record");
  expect_said ("convert the image");

  /* Raw on the user's word. */
  set.backing_format = "raw";
  assert (first_byte (&set) == 'M');

  /* Found out at first: then its base must be raw or said. */
  set.backing_format = NULL;
  put ("m1", "FAKE\nbacking=m2\n");
  expect_refused (&set, EINVAL, "m1: does not record");
  expect_said ("qemu-img rebase");
}

static void
test_loops (void)
{
  struct chain_settings set = settings_for ("top");

  put ("top", "FAKE\nbacking=top\nformat=fake\n");
  expect_refused (&set, ELOOP, "loop");
  put ("top", "FAKE\nbacking=c1\nformat=fake\n");
  put ("c1", "FAKE\nbacking=c2\nformat=fake\n");
  put ("c2", "FAKE\nbacking=c1-link\nformat=fake\n");
  assert (symlink ("c1", "c1-link") == 0);
  expect_refused (&set, ELOOP, "loop");
  assert (unlink ("c1-link") == 0);
  assert (link ("c1", "c1-link") == 0);
  expect_refused (&set, ELOOP, "loop");

  put ("top", "FAKE\ndata=top\n");
  assert (policy_allow (&set.policy, "/") == 0);
  expect_refused (&set, EINVAL, "loop");
  put ("top", "FAKE\ndata=d\nbacking=d\nformat=raw\n");
  put ("d", "data");
  expect_refused (&set, ELOOP, "loop");
  policy_free (&set.policy);
}

static void
test_depth (void)
{
  struct chain_settings set = settings_for ("n200");

  put ("n0", "bottom");
  for (int i = 1; i <= 200; i++) {
    char name[16];

    snprintf (name, sizeof name, "n%d", i);
    put (name, "FAKE\nbacking=n%d\nformat=%s\n", i - 1,
         i == 1 ? "raw" : "fake");
  }
  expect_refused (&set, EINVAL, "200");
  set.file = full ("n199");
  assert (depth_of (&set) == 200);
  assert (first_byte (&set) == 'b');
}

/* A refusal says everything that the chain needs, and that is enough. */
static void
test_needs (void)
{
  struct chain_settings set = settings_for ("top");
  char text[4096];

  assert (mkdir ("a b", 0700) == 0);
  assert (mkdir ("c", 0700) == 0);
  put ("top", "FAKE\ndata=top.raw\nbacking=a b/m1\nformat=fake\n");
  put ("top.raw", "data");
  put ("a b/m1", "FAKE\nbacking=m2\nformat=fake\n");
  put ("a b/m2", "FAKE\nbacking=../c/.m3\nformat=fake\n");
  put ("c/.m3", "FAKE\nbacking=m4\nformat=raw\n");
  put ("c/m4", "bottom");

  snprintf (text, sizeof text,
            "add allow-path=%s/top.raw allow-path='%s/a b/m1' "
            "allow-path=%s/c/.m3\n", dir, dir, dir);
  expect_refused (&set, EPERM, text);
  assert (policy_allow (&set.policy, "top.raw") == 0);
  snprintf (text, sizeof text,
            "add allow-path='%s/a b/m1' allow-path=%s/c/.m3\n", dir, dir);
  expect_refused (&set, EPERM, text);
  assert (policy_allow (&set.policy, "a b/m1") == 0);
  assert (policy_allow (&set.policy, "c/.m3") == 0);
  assert (depth_of (&set) == 5);
  policy_free (&set.policy);

  /* What is not told: anything about a file's content. */
  put ("top", "FAKE\nbacking=c/m4\nformat=fake\n");
  expect_refused (&set, EPERM, "allow-path=");
  assert (strstr (messages, "FAKE") == NULL);

  /* A pipe on the way holds nobody. */
  assert (mkfifo ("c/pipe", 0600) == 0);
  put ("c/m4", "FAKE\nbacking=pipe\nformat=fake\n");
  expect_refused (&set, EPERM, "/c/m4\n");
  /* Nor does a loop. */
  put ("c/m4", "FAKE\nbacking=../a b/m1\nformat=fake\n");
  put ("a b/m1", "FAKE\nbacking=../c/m4\nformat=fake\n");
  expect_refused (&set, EPERM, "/a b/m1'\n");
}

/* Two layers on one data file share it, and may only read it. */
static void
test_shared_data (void)
{
  struct chain_settings set = settings_for ("top");
  struct chain *chain;

  assert (policy_allow (&set.policy, "top.raw") == 0);
  put ("top", "FAKE\ndata=top.raw\nbacking=low\nformat=fake\n");
  put ("low", "FAKE\ndata=top.raw\n");
  chain = try_open (&set);
  assert (chain);
  assert (chain->layers[0].data == chain->layers[1].data);
  assert (chain->layers[0].shares_data);
  chain_close (chain);
  put ("low", "FAKE\n");
  chain = try_open (&set);
  assert (chain && !chain->layers[0].shares_data);
  chain_close (chain);

  set.data_file = full ("c/.m3");
  assert (first_byte (&set) == 'F');
  put ("top", "FAKE\n");
  expect_refused (&set, EINVAL, "no external data file");
  policy_free (&set.policy);
}

static void
test_reopen (void)
{
  struct chain_settings set = settings_for ("top");
  struct chain *chain;
  struct image *old;
  char c;

  put ("top", "FAKE\nbacking=base\nformat=raw\n");
  put ("base", "base data");
  chain = try_open (&set);
  assert (chain);
  old = chain_top (chain);
  assert (chain_reopen_top (chain, true) == 0);
  assert (image_read (chain_top (chain), &c, 1, 0) == 0 && c == 'b');

  old = chain_top (chain);
  put ("top", "FAKE\nbacking=c/m4\nformat=raw\n");
  assert (chain_reopen_top (chain, true) == -1 && errno == ESTALE);
  assert (chain_top (chain) == old);
  assert (image_read (chain_top (chain), &c, 1, 0) == 0 && c == 'b');
  chain_close (chain);
}

/* Snapshots stand on the chain's own base, and go before it. */
static void
test_snapshot (void)
{
  struct chain_settings set = settings_for ("top");
  struct image *img, *other;
  struct chain *chain;
  char c;

  put ("top", "FAKE\nbacking=base\nformat=raw\n");
  put ("base", "base data");
  chain = try_open (&set);
  assert (chain);
  assert (chain_open_snapshot (chain, "none") == NULL && errno == ENOENT);
  img = chain_open_snapshot (chain, "s");
  other = chain_open_snapshot (chain, "s");
  assert (img && other && img != other && img != chain_top (chain));
  assert (img->len == SNAPSHOT_LEN && chain_top (chain)->len == DISK_LEN);
  assert (img->backing == chain_top (chain)->backing);
  assert (image_read (img, &c, 1, 0) == 0 && c == 'b');
  image_close (other);

  /* The top may be opened anew under them. */
  assert (chain_reopen_top (chain, true) == 0);
  assert (img->backing == chain_top (chain)->backing);
  assert (image_read (img, &c, 1, 1) == 0 && c == 'a');
  image_close (img);
  assert (image_read (chain_top (chain), &c, 1, 0) == 0 && c == 'b');
  chain_close (chain);

  /* Chosen by the user: of the top only, whatever is below. */
  put ("base", "FAKE\n");
  put ("top", "FAKE\nbacking=base\nformat=fake\n");
  set.wishes.snapshot = "s";
  chain = try_open (&set);
  assert (chain && chain_top (chain)->len == SNAPSHOT_LEN);
  assert (chain_top (chain)->backing->len == DISK_LEN);
  chain_close (chain);
  set.wishes.snapshot = "none";
  expect_refused (&set, ENOENT, "no such snapshot");

  /* A format that knows none. */
  put ("top", "MUTE\n");
  set.format = &mute_format;
  expect_refused (&set, ENOENT, "no snapshots in mute images");
  set.wishes.snapshot = NULL;
  chain = try_open (&set);
  assert (chain && chain_open_snapshot (chain, "s") == NULL &&
          errno == ENOENT);
  chain_close (chain);
  put ("base", "base data");
}

/* By descriptor: no directory. */
static void
test_descriptor (void)
{
  struct chain_settings set = settings_for ("top");

  put ("top", "FAKE\nbacking=base\nformat=raw\n");
  set.file = NULL;
  set.fd = open ("top", O_RDONLY);
  assert (set.fd >= 0);
  assert (try_open (&set) == NULL);
  expect_said ("has no directory");
  expect_said ("backing=PATH");
  set.backing = CHAIN_BACKING_PATH;
  set.backing_path = full ("base");
  assert (first_byte (&set) == 'b');
  close (set.fd);
}

static void
test_probe (void)
{
  const struct {
    const char *format, *head;
    size_t len;
  } rows[] = {
    { "raw", "", 0 },
    { "raw", "QFI", 3 },
    { "qcow", "QFI\xfb\0\0\0\1", 8 },
    { "qcow", "QFI\xfb", 4 },
    { "vhdx", "vhdxfile", 8 },
    { "raw", "vhdxfil", 7 },
    { "luks", "LUKS\xba\xbe", 6 },
    { "vmdk", "# Disk DescriptorFile", 21 },
    { "fake", "FAKE\n", 5 },
  };

  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    assert (strcmp (probe_head (formats, (const uint8_t *) rows[i].head,
                                rows[i].len, rows[i].len),
                    rows[i].format) == 0);
}

int
main (void)
{
  char command[sizeof dir + 16];

  assert (mkdtemp (dir) != NULL && chdir (dir) == 0);
  test_simple ();
  test_shares ();
  test_user ();
  test_formats ();
  test_mute_formats ();
  test_loops ();
  test_depth ();
  test_needs ();
  test_shared_data ();
  test_reopen ();
  test_snapshot ();
  test_descriptor ();
  test_probe ();
  snprintf (command, sizeof command, "rm -rf '%s'", dir);
  assert (chdir ("/") == 0 && system (command) == 0);
  return 0;
}
