/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"

static int
request_all (int fd)
{
  struct
  {
    struct nlmsghdr header;
    struct ifinfomsg info;
  } request = { .header = { .nlmsg_len = sizeof (request),
			    .nlmsg_type = RTM_GETLINK,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.info = { .ifi_family = AF_UNSPEC } };

  return send (fd, &request, sizeof (request), 0) < 0 ? -errno : 0;
}

int
emb_links_open (emb_links_t *l, const emb_options_t *o)
{
  struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
  int rv;

  memset (l, 0, sizeof (*l));
  for (l->n_links = 0; l->n_links < o->n_interfaces; l->n_links++)
    l->links[l->n_links].name = o->interfaces[l->n_links];
  l->fd = socket (AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (l->fd < 0)
    return -errno;
  if (bind (l->fd, (struct sockaddr *) &address, sizeof (address)))
    rv = -errno;
  else
    rv = request_all (l->fd);
  if (rv)
    emb_links_close (l);
  return rv;
}

void
emb_links_close (emb_links_t *l)
{
  if (l->fd >= 0)
    close (l->fd);
  l->fd = -1;
}

static bool
set_state (emb_link_t *link, uint64_t state)
{
  uint64_t old = atomic_load (&link->state);

  if (old == state)
    return false;
  atomic_store (&link->state, state);
  EMB_LOG (EMB_INFO, state ? "interface is up" : "interface is down or absent, waiting for it",
	   host_json_str (&j, "interface", link->name), host_json_i64 (&j, "ifindex", emb_link_ifindex (state)),
	   host_json_u64 (&j, "mtu", emb_link_mtu (state)));
  return true;
}

static bool
read_link (emb_links_t *l, const struct nlmsghdr *header)
{
  const struct ifinfomsg *info = NLMSG_DATA (header);
  const struct rtattr *attribute;
  const char *name = "";
  uint32_t mtu = 0;
  int left;
  bool changed = false;

  if (header->nlmsg_len < NLMSG_LENGTH (sizeof (*info)))
    return false;
  left = (int) (header->nlmsg_len - NLMSG_LENGTH (sizeof (*info)));
  for (attribute = IFLA_RTA (info); RTA_OK (attribute, left); attribute = RTA_NEXT (attribute, left))
    {
      if (attribute->rta_type == IFLA_IFNAME)
	name = RTA_DATA (attribute);
      else if (attribute->rta_type == IFLA_MTU)
	memcpy (&mtu, RTA_DATA (attribute), sizeof (mtu));
    }
  for (uint32_t i = 0; i < l->n_links; i++)
    {
      emb_link_t *link = &l->links[i];
      const bool same_name = strcmp (link->name, name) == 0;
      const bool same_index = emb_link_ifindex (atomic_load (&link->state)) == info->ifi_index;

      if (header->nlmsg_type == RTM_NEWLINK && same_name && (info->ifi_flags & IFF_UP))
	changed |= set_state (link, (uint32_t) info->ifi_index | (uint64_t) mtu << 32);
      else if (same_index) /* removed, down, or renamed */
	changed |= set_state (link, 0);
    }
  return changed;
}

bool
emb_links_read (emb_links_t *l)
{
  static _Alignas (struct nlmsghdr) uint8_t buffer[32 * 1024];
  bool changed = false;

  for (;;)
    {
      ssize_t length = recv (l->fd, buffer, sizeof (buffer), MSG_DONTWAIT);
      if (length < 0 && errno == EINTR)
	continue;
      if (length < 0 && errno == ENOBUFS)
	{
	  /* Messages were lost: the links are gone until the list says otherwise. */
	  for (uint32_t i = 0; i < l->n_links; i++)
	    changed |= set_state (&l->links[i], 0);
	  request_all (l->fd);
	  continue;
	}
      if (length <= 0)
	return changed;
      for (struct nlmsghdr *h = (struct nlmsghdr *) buffer; NLMSG_OK (h, length); h = NLMSG_NEXT (h, length))
	if (h->nlmsg_type == RTM_NEWLINK || h->nlmsg_type == RTM_DELLINK)
	  changed |= read_link (l, h);
    }
}
