/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into VPP: it does not ask for huge pages itself, so that the benchmark decides which memory lies on them. */

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

enum
{
  ADVISE_HUGE = 14,
  ADVISE_COLLAPSE = 25,
};

int
madvise (void *address, size_t length, int advice)
{
  if (advice == ADVISE_HUGE || advice == ADVISE_COLLAPSE)
    {
      errno = EINVAL;
      return -1;
    }
  return (int) syscall (SYS_madvise, address, length, advice);
}
