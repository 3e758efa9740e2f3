/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into VPP: it believes in one processor for each of its threads, and lets them run where the
   benchmark puts them. VPP itself starts no more threads than there are processors. */

#include <pthread.h>
#include <sched.h>

#define PRETENDED 8

int
sched_getaffinity (pid_t pid, size_t size, cpu_set_t *set)
{
  (void) pid;
  CPU_ZERO_S (size, set);
  for (int i = 0; i < PRETENDED; i++)
    CPU_SET_S (i, size, set);
  return 0;
}

int
pthread_setaffinity_np (pthread_t thread, size_t size, const cpu_set_t *set)
{
  (void) thread;
  (void) size;
  (void) set;
  return 0;
}

int
sched_setaffinity (pid_t pid, size_t size, const cpu_set_t *set)
{
  (void) pid;
  (void) size;
  (void) set;
  return 0;
}
