/* SPDX-License-Identifier: Apache-2.0 */
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"
#include "host/message.h"
#include "host/signalling.h"
#include "fastpath/fp_control.h"

#define RETIRING_MS 20 /* freed slots wait for the workers */

enum client_state
{
  READING,
  WORKING,
  ANSWERING,
};

/* One message at a time: read whole, carried out slice by slice, answered; only then the next one is read. */
typedef struct
{
  int fd; /* -1: free */
  enum client_state state;
  bool dirty;	/* changed tables since its last commit */
  bool closing; /* after this answer: its stream has lost its message boundaries */
  uint32_t in_used, out_sent;
  host_request_t request;
  host_reply_t reply;
  uint8_t *in;
} client_t;

int
emb_control_listen (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  struct stat st;
  mode_t mask;
  int fd, rv;

  if (strlen (path) >= sizeof (address.sun_path))
    return -ENAMETOOLONG;
  strcpy (address.sun_path, path);
  /* The region's lock says that no other engine lives: a socket here is a dead one's. */
  if (lstat (path, &st) == 0 && S_ISSOCK (st.st_mode))
    unlink (path);
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -errno;
  mask = umask (0117); /* mode 0660 from the first moment */
  rv = bind (fd, (struct sockaddr *) &address, sizeof (address)) ? -errno : 0;
  umask (mask);
  if (rv == 0 && listen (fd, SOMAXCONN))
    rv = -errno;
  if (rv)
    {
      close (fd);
      return rv;
    }
  return fd;
}

static void
client_close (emb_engine_t *e, client_t *c)
{
  close (c->fd);
  free (c->in);
  free (c->reply.bytes);
  /* What it changed is published as it stands, rather than kept back for ever. */
  if (c->dirty)
    fp_control_commit (e->host.region);
  *c = (client_t){ .fd = -1 };
}

/* False: nobody waits. */
static bool
client_accept (client_t *clients, int listen_fd)
{
  const int fd = accept4 (listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  client_t *c = NULL;

  if (fd < 0)
    return false;
  for (uint32_t i = 0; i < EMB_MAX_CLIENTS && !c; i++)
    if (clients[i].fd < 0)
      c = &clients[i];
  if (c)
    {
      *c = (client_t){ .fd = fd, .in = malloc (FP_MSG_MAX_BYTES), .reply.bytes = malloc (FP_MSG_MAX_BYTES) };
      if (c->in && c->reply.bytes)
	return true;
      free (c->in);
      free (c->reply.bytes);
      *c = (client_t){ .fd = -1 };
    }
  EMB_LOG (EMB_WARNING, "control connection refused: too many", host_json_u64 (&j, "most", EMB_MAX_CLIENTS));
  close (fd);
  return true;
}

/* Each of the three does what it can without waiting; false: the connection is over. */
static bool
client_read (client_t *c)
{
  for (;;)
    {
      fp_msg_t header;
      uint32_t want = sizeof (header);
      ssize_t n;

      if (c->in_used >= sizeof (header))
	{
	  memcpy (&header, c->in, sizeof (header));
	  want = host_message_length (&header);
	  if (want == 0)
	    {
	      host_message_refuse (&header, -EPROTO, &c->reply);
	      c->closing = true;
	      c->state = ANSWERING;
	      return true;
	    }
	  if (c->in_used == want)
	    {
	      c->state = host_message_start (&c->request, c->in, &c->reply) ? ANSWERING : WORKING;
	      return true;
	    }
	}
      n = recv (c->fd, c->in + c->in_used, want - c->in_used, 0);
      if (n < 0 && errno == EINTR)
	continue;
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
	return true;
      if (n <= 0)
	return false;
      c->in_used += (uint32_t) n;
    }
}

static bool
client_answer (client_t *c)
{
  while (c->out_sent < c->reply.used)
    {
      ssize_t n = send (c->fd, c->reply.bytes + c->out_sent, c->reply.used - c->out_sent, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR)
	continue;
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
	return true;
      if (n <= 0)
	return false;
      c->out_sent += (uint32_t) n;
    }
  c->in_used = c->out_sent = 0;
  c->state = READING;
  return !c->closing;
}

static void
client_serve (emb_engine_t *e, client_t *c, short events)
{
  bool alive = true;

  if (c->state == READING && events)
    alive = client_read (c);
  if (alive && c->state == WORKING && host_message_step (&e->host, &c->request, &c->reply, &c->dirty))
    c->state = ANSWERING;
  if (alive && c->state == ANSWERING)
    alive = client_answer (c);
  if (!alive)
    client_close (e, c);
}

static void
wake_workers (emb_engine_t *e)
{
  for (uint32_t i = 0; i < e->options.workers; i++)
    emb_worker_wake (&e->workers[i]);
}

/* One round: waits, then gives every client one turn. 1: go on, 0: a signal came, or a negative errno. */
static int
serve_once (emb_engine_t *e, client_t *clients, int listen_fd, int signal_fd)
{
  struct pollfd fds[3 + EMB_MAX_CLIENTS];
  int timeout = host_signalling_run (&e->host);

  if (fp_control_poll (e->host.region) && timeout > RETIRING_MS)
    timeout = RETIRING_MS;
  fds[0] = (struct pollfd){ .fd = signal_fd, .events = POLLIN };
  fds[1] = (struct pollfd){ .fd = e->links.fd, .events = POLLIN };
  fds[2] = (struct pollfd){ .fd = listen_fd, .events = POLLIN };
  for (uint32_t i = 0; i < EMB_MAX_CLIENTS; i++)
    {
      fds[3 + i] = (struct pollfd){ .fd = clients[i].fd, .events = clients[i].state == ANSWERING ? POLLOUT : POLLIN };
      if (clients[i].fd >= 0 && clients[i].state == WORKING)
	{
	  timeout = 0;
	  fds[3 + i].events = 0;
	}
    }
  if (poll (fds, 3 + EMB_MAX_CLIENTS, timeout) < 0)
    return errno == EINTR ? 1 : -errno;
  if (fds[0].revents)
    {
      struct signalfd_siginfo info;
      if (read (signal_fd, &info, sizeof (info)) == sizeof (info))
	{
	  EMB_LOG (EMB_INFO, "stopping on a signal", host_json_u64 (&j, "signal", info.ssi_signo));
	  return 0;
	}
    }
  if (fds[1].revents && emb_links_read (&e->links))
    wake_workers (e);
  for (uint32_t i = 0; i < EMB_MAX_CLIENTS; i++)
    if (clients[i].fd >= 0 && (fds[3 + i].revents || clients[i].state == WORKING))
      client_serve (e, &clients[i], fds[3 + i].revents);
  if (fds[2].revents)
    for (int i = 0; i < EMB_MAX_CLIENTS && client_accept (clients, listen_fd); i++)
      ;
  return 1;
}

int
emb_control_run (emb_engine_t *e, int listen_fd, int signal_fd)
{
  client_t clients[EMB_MAX_CLIENTS];
  int rv;

  for (uint32_t i = 0; i < EMB_MAX_CLIENTS; i++)
    clients[i] = (client_t){ .fd = -1 };
  while ((rv = serve_once (e, clients, listen_fd, signal_fd)) == 1)
    ;
  for (uint32_t i = 0; i < EMB_MAX_CLIENTS; i++)
    if (clients[i].fd >= 0)
      client_close (e, &clients[i]);
  return rv;
}
