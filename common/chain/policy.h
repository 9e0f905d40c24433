/* What an image may make us open.
 *
 * A name found inside an image was chosen by whoever made the image, so it
 * is followed only where that can do no harm: to a regular file directly
 * beside the image, not a hidden one.  Everything else needs the user's
 * word (allow-path=).  Names that the user gave never come here.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_POLICY_H
#define NDF_POLICY_H

#include <stdbool.h>
#include <stddef.h>

/* What the user allowed: real paths, of files or of directories with all
 * that is below them.
 */
struct policy {
  char **allowed;               /* owned */
  size_t nr_allowed;
};

enum policy_role {
  POLICY_BACKING,               /* read */
  POLICY_DATA,                  /* written by whoever writes the image */
};

enum policy_answer {
  POLICY_OK,

  /* No allow-path= makes these good. */
  POLICY_EMPTY,                 /* there is no name */
  POLICY_CONTROL,               /* control characters, not fit for a log */
  POLICY_JSON,                  /* a description in JSON */
  POLICY_PROTOCOL,              /* ':' before the first '/' */
  POLICY_NO_DIRECTORY,          /* relative to an image that has no name */
  POLICY_MISSING,               /* errno tells */
  POLICY_TYPE,                  /* a directory, pipe, socket ... */

  /* These wait for the user's word. */
  POLICY_OUTSIDE,               /* in another directory */
  POLICY_HIDDEN,                /* a dot name */
  POLICY_DEVICE,                /* a block device */
  POLICY_WRITTEN,               /* a data file */
};

struct policy_verdict {
  enum policy_answer answer;
  int err;                      /* POLICY_MISSING: why */
  char *path;                   /* the name, made absolute; or NULL */
  char *real;                   /* without symbolic links; or NULL */
};

/* Allow 'path', which exists.  -1, reported. */
extern int policy_allow (struct policy *policy, const char *path);
extern void policy_free (struct policy *policy);

/* May image 'image' (its absolute name as given, or NULL when it has none)
 * make us open 'recorded'?  Nothing is opened, nothing blocks.
 *
 * Fills in *verdict, to be given to policy_verdict_free in any case.
 * -1, reported, errno ENOMEM.
 */
extern int policy_judge (const struct policy *policy, const char *image,
                         const char *recorded, enum policy_role role,
                         struct policy_verdict *verdict);
extern void policy_verdict_free (struct policy_verdict *verdict);

#define CLEANUP_VERDICT __attribute__ ((cleanup (policy_verdict_free)))

/* Would allow-path= help? */
extern bool policy_can_be_allowed (enum policy_answer answer);

/* The answer as part of a sentence after the file's name: "is in another
 * directory".
 */
extern const char *policy_explain (const struct policy_verdict *verdict);

/* A name that some program would take for a protocol or for JSON. */
extern bool policy_is_protocol (const char *name);
extern bool policy_is_json (const char *name);

/* Has 'name' characters that are not fit for a log or a terminal? */
extern bool policy_has_control (const char *name);

/* 'name' with '?' for each of these, for messages.  Owned by the caller;
 * NULL with errno ENOMEM.
 */
extern char *policy_show (const char *name);

/* 'name' as a shell word, for messages that are to be pasted.  Owned by
 * the caller; NULL with errno ENOMEM.
 */
extern char *policy_quote (const char *name);

/* 'name' relative to the directory of 'image'; an absolute one as it is.
 * Owned by the caller; NULL with errno ENOMEM.
 */
extern char *policy_join (const char *image, const char *name);

#endif /* NDF_POLICY_H */
