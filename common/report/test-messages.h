/* An end of 'report' for unit tests that look at what was reported.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */

#ifndef NDF_REPORT_TEST_MESSAGES_H
#define NDF_REPORT_TEST_MESSAGES_H

/* What has been reported since test_messages_forget. */
struct test_messages {
  unsigned nr_errors, nr_warnings, nr_debug;
  char error[2048];             /* the first one */
  char warning[2048];           /* the last one */
  char debug[2048];             /* the first one */
};
extern struct test_messages test_messages;

extern void test_messages_forget (void);

#endif /* NDF_REPORT_TEST_MESSAGES_H */
