/* Tests of what an image may make us open: every trick.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#include <config.h>

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <fcntl.h>

#include "chain/policy.h"
#include "include/cleanup.h"

static char dir[] = "/tmp/test-policy-XXXXXX";

/* Absolute name of 'name' in the test's directory; static buffers. */
static const char *
in_dir (const char *name)
{
  static char buffers[4][4096];
  static unsigned next;
  char *b = buffers[next++ % 4];

  snprintf (b, sizeof buffers[0], "%s/%s", dir, name);
  return b;
}

static void
make_file (const char *name)
{
  int fd = open (in_dir (name), O_CREAT | O_WRONLY, 0600);

  assert (fd >= 0);
  close (fd);
}

static void
make_tree (void)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  int sock = socket (AF_UNIX, SOCK_STREAM, 0);

  assert (mkdtemp (dir) != NULL);
  assert (mkdir (in_dir ("images"), 0700) == 0);
  assert (mkdir (in_dir ("images/sub"), 0700) == 0);
  assert (mkdir (in_dir ("images-2"), 0700) == 0);
  assert (mkdir (in_dir ("links"), 0700) == 0);
  make_file ("images/top");
  make_file ("images/base");
  make_file ("images/a:b");
  make_file ("images/.hidden");
  make_file ("images/sub/base");
  make_file ("images-2/base");
  make_file ("secret");
  assert (symlink ("base", in_dir ("images/link-in")) == 0);
  assert (symlink ("../secret", in_dir ("images/link-out")) == 0);
  assert (symlink (".hidden", in_dir ("images/link-hidden")) == 0);
  assert (symlink ("loop", in_dir ("images/loop")) == 0);
  assert (symlink ("../images/top", in_dir ("links/top")) == 0);
  make_file ("links/base");
  assert (symlink ("images", in_dir ("images-link")) == 0);
  assert (mkfifo (in_dir ("images/fifo"), 0600) == 0);
  assert (sock >= 0);
  snprintf (addr.sun_path, sizeof addr.sun_path, "%s", in_dir
            ("images/socket"));
  assert (bind (sock, (struct sockaddr *) &addr, sizeof addr) == 0);
  close (sock);
}

static enum policy_answer
judge (const struct policy *policy, const char *image, const char *recorded,
       enum policy_role role)
{
  CLEANUP_VERDICT struct policy_verdict v;

  assert (policy_judge (policy, image, recorded, role, &v) == 0);
  assert (policy_explain (&v)[0] != '\0');
  if (v.answer == POLICY_OK || policy_can_be_allowed (v.answer)) {
    assert (v.path[0] == '/');
    assert (v.real[0] == '/');
  }
  return v.answer;
}

static const struct {
  const char *recorded;
  enum policy_answer answer;
} tricks[] = {
  { "base", POLICY_OK },
  { "./base", POLICY_OK },
  { "sub/../base", POLICY_OK },
  { "../images/base", POLICY_OK },
  { "link-in", POLICY_OK },
  { "./a:b", POLICY_OK },
  { "", POLICY_EMPTY },
  { "a:b", POLICY_PROTOCOL },
  { "file:base", POLICY_PROTOCOL },
  { "nbd:unix:/x", POLICY_PROTOCOL },
  { "nbd+unix:///?socket=/x", POLICY_PROTOCOL },
  { ":base", POLICY_PROTOCOL },
  { "json:{\"driver\":\"file\"}", POLICY_JSON },
  { "base\n", POLICY_CONTROL },
  { "\033[2Jbase", POLICY_CONTROL },
  { "\177", POLICY_CONTROL },
  { "missing", POLICY_MISSING },
  { "loop", POLICY_MISSING },
  { "base/", POLICY_MISSING },
  { "base/.", POLICY_MISSING },
  { "sub", POLICY_TYPE },
  { ".", POLICY_TYPE },
  { "..", POLICY_TYPE },
  { "/", POLICY_TYPE },
  { "fifo", POLICY_TYPE },
  { "socket", POLICY_TYPE },
  { "/dev/null", POLICY_TYPE },
  { "sub/base", POLICY_OUTSIDE },
  { "../secret", POLICY_OUTSIDE },
  { "../images-2/base", POLICY_OUTSIDE },
  { "link-out", POLICY_OUTSIDE },
  { "./sub/../../secret", POLICY_OUTSIDE },
  { "/etc/passwd", POLICY_OUTSIDE },
  { "/proc/self/exe", POLICY_OUTSIDE },
  { ".hidden", POLICY_HIDDEN },
  { "./.hidden", POLICY_HIDDEN },
  { "link-hidden", POLICY_HIDDEN },
};

static void
test_tricks (void)
{
  const struct policy nothing = { .nr_allowed = 0 };

  for (size_t i = 0; i < sizeof tricks / sizeof tricks[0]; i++) {
    enum policy_answer answer = judge (&nothing, in_dir ("images/top"),
                                       tricks[i].recorded, POLICY_BACKING);

    if (answer != tricks[i].answer)
      fprintf (stderr, "%s: %d, not %d\n", tricks[i].recorded, answer,
               tricks[i].answer);
    assert (answer == tricks[i].answer);
  }
}

/* The image's directory: of its name and of its real path. */
static void
test_own_directory (void)
{
  const struct policy nothing = { .nr_allowed = 0 };
  const char *link = in_dir ("links/top");

  /* Names are relative to the name as given ... */
  assert (judge (&nothing, link, "base", POLICY_BACKING) == POLICY_OK);
  assert (judge (&nothing, link, in_dir ("links/base"), POLICY_BACKING)
          == POLICY_OK);
  /* ... but the real directory is its own, too. */
  assert (judge (&nothing, link, "../images/base", POLICY_BACKING)
          == POLICY_OK);
  assert (judge (&nothing, link, "../secret", POLICY_BACKING)
          == POLICY_OUTSIDE);
  /* A directory reached by a link. */
  assert (judge (&nothing, in_dir ("images-link/top"), "base",
                 POLICY_BACKING) == POLICY_OK);
  assert (judge (&nothing, in_dir ("images-link/top"),
                 in_dir ("images/base"), POLICY_BACKING) == POLICY_OK);
  /* An image in the root directory. */
  assert (judge (&nothing, "/image", "etc/passwd", POLICY_BACKING)
          == POLICY_OUTSIDE);
}

static void
test_no_directory (void)
{
  struct policy policy = { .nr_allowed = 0 };

  assert (judge (&policy, NULL, "base", POLICY_BACKING)
          == POLICY_NO_DIRECTORY);
  assert (judge (&policy, NULL, in_dir ("images/base"), POLICY_BACKING)
          == POLICY_OUTSIDE);
  assert (policy_allow (&policy, in_dir ("images")) == 0);
  assert (judge (&policy, NULL, in_dir ("images/base"), POLICY_BACKING)
          == POLICY_OK);
  policy_free (&policy);
}

static void
test_data_files (void)
{
  struct policy policy = { .nr_allowed = 0 };
  const char *top = in_dir ("images/top");

  assert (judge (&policy, top, "base", POLICY_DATA) == POLICY_WRITTEN);
  assert (judge (&policy, top, "fifo", POLICY_DATA) == POLICY_TYPE);
  assert (judge (&policy, top, "json:{}", POLICY_DATA) == POLICY_JSON);
  assert (judge (&policy, top, "", POLICY_DATA) == POLICY_EMPTY);
  assert (policy_allow (&policy, in_dir ("images/base")) == 0);
  assert (judge (&policy, top, "base", POLICY_DATA) == POLICY_OK);
  assert (judge (&policy, top, "link-in", POLICY_DATA) == POLICY_OK);
  assert (judge (&policy, top, "a:b", POLICY_DATA) == POLICY_PROTOCOL);
  policy_free (&policy);
}

static void
test_allowed (void)
{
  struct policy policy = { .nr_allowed = 0 };
  const char *top = in_dir ("images/top");

  /* A directory has all that is below it, but not its namesakes. */
  assert (policy_allow (&policy, in_dir ("images/sub/.")) == 0);
  assert (judge (&policy, top, "sub/base", POLICY_BACKING) == POLICY_OK);
  assert (judge (&policy, top, ".hidden", POLICY_BACKING)
          == POLICY_HIDDEN);
  policy_free (&policy);
  assert (policy_allow (&policy, in_dir ("images")) == 0);
  assert (judge (&policy, top, "../images-2/base", POLICY_BACKING)
          == POLICY_OUTSIDE);
  assert (judge (&policy, top, "link-out", POLICY_BACKING)
          == POLICY_OUTSIDE);
  assert (judge (&policy, top, ".hidden", POLICY_BACKING) == POLICY_OK);
  policy_free (&policy);

  /* Through a link, on either side. */
  assert (policy_allow (&policy, in_dir ("images/link-out")) == 0);
  assert (judge (&policy, top, "../secret", POLICY_BACKING) == POLICY_OK);
  assert (judge (&policy, top, "link-out", POLICY_BACKING) == POLICY_OK);
  policy_free (&policy);

  /* Everything, but types and protocols stay what they are. */
  assert (policy_allow (&policy, "/") == 0);
  assert (judge (&policy, top, "/etc/passwd", POLICY_BACKING) == POLICY_OK);
  assert (judge (&policy, top, "../secret", POLICY_DATA) == POLICY_OK);
  assert (judge (&policy, top, "fifo", POLICY_BACKING) == POLICY_TYPE);
  assert (judge (&policy, top, "nbd:x", POLICY_BACKING) == POLICY_PROTOCOL);
  assert (judge (&policy, top, "missing", POLICY_DATA) == POLICY_MISSING);
  policy_free (&policy);

  assert (policy_allow (&policy, in_dir ("missing")) == -1);
  assert (policy.nr_allowed == 0);
  policy_free (&policy);
}

static void
check_quote (const char *name, const char *expected)
{
  CLEANUP_FREE char *quoted = policy_quote (name);

  assert (quoted && strcmp (quoted, expected) == 0);
}

static void
test_quote (void)
{
  check_quote ("/a/b-c_d.e", "/a/b-c_d.e");
  check_quote ("/a b", "'/a b'");
  check_quote ("/$(rm x)", "'/$(rm x)'");
  check_quote ("/it's", "'/it'\\''s'");
  check_quote ("", "''");
  check_quote ("/\303\244", "'/\303\244'");
}

static void
test_show (void)
{
  CLEANUP_FREE char *plain = policy_show ("a \303\244'\\");
  CLEANUP_FREE char *tamed = policy_show ("\033[31m\n\x7f.");

  assert (plain && strcmp (plain, "a \303\244'\\") == 0);
  assert (!policy_has_control (plain));
  assert (tamed && strcmp (tamed, "?[31m??.") == 0);
  assert (policy_has_control ("a\037") && policy_has_control ("\x7f"));
}

static void
remove_tree (void)
{
  char command[sizeof dir + 16];

  snprintf (command, sizeof command, "rm -rf '%s'", dir);
  assert (system (command) == 0);
}

int
main (void)
{
  make_tree ();
  test_tricks ();
  test_own_directory ();
  test_no_directory ();
  test_data_files ();
  test_allowed ();
  test_quote ();
  test_show ();
  remove_tree ();
  return 0;
}
