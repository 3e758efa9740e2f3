/* SPDX-License-Identifier: Apache-2.0 */
/* CHECK for tests that do not need packets. */
#ifndef TEST_CHECK_H
#define TEST_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#ifndef CHECK
#define CHECK(condition, ...)                                                                                                   \
  do                                                                                                                            \
    if (!(condition))                                                                                                           \
      {                                                                                                                         \
	fprintf (stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                                                        \
	fprintf (stderr, __VA_ARGS__);                                                                                          \
	fputc ('\n', stderr);                                                                                                   \
	abort ();                                                                                                               \
      }                                                                                                                         \
  while (0)
#endif

#endif /* TEST_CHECK_H */
