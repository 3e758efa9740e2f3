/* SPDX-License-Identifier: Apache-2.0 */

/* First process of a pod: holds its namespaces, and reaps when the pod shares one pid namespace. */

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void
end (int number)
{
  (void) number;
  _exit (0);
}

static void
reap (int number)
{
  (void) number;
  while (waitpid (-1, 0, WNOHANG) > 0)
    ;
}

int
main (void)
{
  const struct sigaction on_end = { .sa_handler = end };
  const struct sigaction on_child = { .sa_handler = reap, .sa_flags = SA_NOCLDSTOP };
  if (sigaction (SIGINT, &on_end, 0) || sigaction (SIGTERM, &on_end, 0) || sigaction (SIGCHLD, &on_child, 0))
    return 1;
  for (;;)
    pause ();
}
