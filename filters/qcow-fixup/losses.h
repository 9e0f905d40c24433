/* What a change of a qcow2 header loses, changes or replaces.
 *
 * The state and the judgement of preserve.c, which moves the bytes; the
 * rules are at its top.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_QCOW_FIXUP_LOSSES_H
#define NDF_QCOW_FIXUP_LOSSES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/lock.h"
#include "qcow2/header.h"

#include "preserve.h"

/* Type and length before the data of an extension; END is no more. */
#define ENTRY_HEADER_LEN 8

/* A write that begins before this byte says what the image is. */
#define IDENTITY_END 24

#define COMPRESSION_TYPE_HOST 104

struct entry {
  uint32_t type;
  uint32_t len;
  const uint8_t *data;
  uint64_t host;                /* of the type */
  bool mark;                    /* kept: lost; found: matched by none */
  bool moved;                   /* kept: replaced; found: replaces */
};

struct entries {
  struct entry *v;              /* owned */
  size_t nr;
  uint8_t *bytes;               /* what data point into, or NULL; owned */
};

/* A header that could be parsed. */
struct view {
  struct qcow2_header h;
  uint64_t list_end;            /* where END is, or would be */
  uint64_t live_end;            /* behind END */
  uint64_t limit;               /* of the list */
  struct entries unknown;
};

struct preserve {
  char *name;
  enum preserve_mode mode;
  _Atomic uint64_t guarded_len; /* falls under lock */
  _Atomic bool split;           /* 'wanted' is not 'disk'; changes under
                                   lock */

  struct lock lock;             /* the rest; held while cluster 0 is
                                   written */
  bool loaded;
  bool stale;                   /* a write failed: 'disk' is unknown */
  bool sound;                   /* 'wanted' can be parsed */
  bool magic_gone;
  uint64_t cluster_len;
  uint64_t limit;               /* behind header and list, while sound */
  struct qcow2_header h;        /* the last one that was sound; no rest */
  uint8_t *wanted;              /* cluster_len bytes each, zero from */
  uint8_t *disk;                /* guarded_len on */

  struct entries kept;
  uint8_t *fields;              /* [COMPRESSION_TYPE_HOST, fields_end) */
  uint64_t fields_end;          /* 0: none */
  size_t nr_unfit;              /* what the log knows to be lost */
};

/* One request, as far as it lies in cluster 0: [start, end). */
struct change {
  const struct preserve_below *below;
  const uint8_t *data;          /* NULL: zeroes */
  uint64_t start;
  uint64_t end;
  const uint8_t *tail;          /* of the write, behind guarded_len */
  size_t tail_len;
  bool fua;

  uint8_t *next;                /* 'wanted' after it */
  uint8_t *merged;              /* with what it would lose, or NULL */
  struct view view;             /* of 'next' */
  bool low_lost;                /* fields that are there, but zero */
  bool high_lost;               /* the header became too short */
  bool has_grown;               /* the header, by the lost fields */
  uint64_t merged_end;          /* behind END */
  size_t nr_unfit;
};

/* Parse the bytes of cluster 0.
 *
 * Returns 1; 0 when they are not a sound header with the cluster size that
 * is known; -1, reported, errno ENOMEM.  The caller frees view->unknown in
 * any case; its data point into 'bytes'.
 */
extern int view_parse (const struct preserve *p, const uint8_t *bytes,
                       struct view *view);

/* Version and magic of an image that this is about? */
extern bool has_magic (const uint8_t *bytes);

/* Do the fields of the first QCOW2_HEADER_KNOWN_LEN bytes hold together?
 * Says nothing in the log.
 */
extern bool shape_is_sound (const struct preserve *p, const uint8_t *bytes,
                            const struct qcow2_header *h);

/* Is what the change makes of cluster 0 (c->next) another image? */
extern bool is_another_image (const struct preserve *p,
                              const struct change *c);

/* Mark what of the kept extensions the change would lose, and what it
 * replaces; c->view is parsed.  -1, reported, errno ENOMEM.
 */
extern int compare_extensions (struct preserve *p, struct change *c);

/* Say in c->low_lost and c->high_lost which unknown fields it would lose. */
extern void compare_fields (const struct preserve *p, struct change *c);

/* The header on disk is now the one of the change: keep from now on what it
 * holds by the will of somebody who knows it.  -1, reported, errno ENOMEM:
 * then the old is still kept.
 */
extern int adopt_extensions (struct preserve *p, const struct change *c);
extern int adopt_fields (struct preserve *p, const struct change *c);

/* Keep the unknown fields of a header: -1, reported, errno ENOMEM. */
extern int keep_fields (struct preserve *p, const uint8_t *bytes,
                        const struct qcow2_header *h);

/* The kept byte that was at 'host' of the header. */
static inline uint8_t
kept_field (const struct preserve *p, uint64_t host)
{
  return p->fields[host - COMPRESSION_TYPE_HOST];
}

/* Let the list own the data of its entries: -1, reported, errno ENOMEM. */
extern int entries_own (const char *name, struct entries *list);
extern void entries_free (struct entries *list);

#endif /* NDF_QCOW_FIXUP_LOSSES_H */
