/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "fastpath/wire.h"

static bool
receive_all (int fd, void *buffer, size_t size)
{
  for (size_t used = 0; used < size;)
    {
      ssize_t n = recv (fd, (char *) buffer + used, size - used, 0);
      if (n <= 0)
	return false;
      used += (size_t) n;
    }
  return true;
}

static bool
ask (int fd, const char *path)
{
  static char text[FP_MSG_MAX_BYTES];
  const struct timeval limit = { .tv_sec = 2 };
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  fp_msg_t message = { .length = sizeof (message), .type = FP_MSG_INFO, .version = FP_MSG_VERSION };
  size_t length;

  strcpy (address.sun_path, path);
  setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof (limit));
  setsockopt (fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof (limit));
  if (connect (fd, (struct sockaddr *) &address, sizeof (address))
      || send (fd, &message, sizeof (message), MSG_NOSIGNAL) != sizeof (message)
      || !receive_all (fd, &message, sizeof (message)))
    return false;
  length = message.length;
  if (message.retval || length < sizeof (message) || length > sizeof (text))
    {
      errno = EPROTO;
      return false;
    }
  length -= sizeof (message);
  if (!receive_all (fd, text, length))
    return false;
  printf ("%.*s\n", (int) length, text);
  return true;
}

int
emb_check (const char *path)
{
  const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool ok;

  errno = 0;
  ok = fd >= 0 && ask (fd, path);
  if (!ok)
    fprintf (stderr, "vpp-embedded: no answer at %s: %s\n", path, errno ? strerror (errno) : "connection closed");
  if (fd >= 0)
    close (fd);
  return ok ? 0 : 1;
}
