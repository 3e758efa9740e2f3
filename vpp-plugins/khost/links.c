/* SPDX-License-Identifier: Apache-2.0 */
#include <khost/links.h>

#include <errno.h>
#include <linux/if.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vlib/threads.h>

/* The far end of a link is the node's own: fixed addresses, so that neither side has to ask for the other. */
#define ENGINE_MAC     "02:76:70:70:00:02"
#define HOST_MAC       "02:76:70:70:00:01"
#define HOST_ADDRESS6  "fe80::76:70ff:fe70:1"
#define LOOK_SECONDS   0.1
#define RETRY_SECONDS  2.0
#define RX_FRAMES      512 /* a ring for each worker; a frame takes a large TCP segment */
#define TX_FRAMES      256

typedef struct
{
  char name[IFNAMSIZ];
  int is_ethernet;
  u32 number;	       /* among those that are no Ethernet links */
  int kernel_index;    /* of the link that the host-interface was made for; 0: there is none */
  u32 sw_if_index;
  u32 mtu; /* of the kernel's link, set on the host-interface too */
  int is_up;
  f64 retry_at;
} link_t;

typedef struct
{
  link_t *links; /* vector */
  u32 n_routed;
  u32 rx_queues; /* asked for */
  khost_link_fn *call;
  int fd; /* for questions about links */
  vlib_log_class_t log_class;
} links_main_t;

static links_main_t links_main = { .fd = -1 };

#define links_log(level, ...) vlib_log (VLIB_LOG_LEVEL_##level, links_main.log_class, __VA_ARGS__)

static void
take_output (uword arg, u8 *text, uword length)
{
  vec_add (*(u8 **) arg, text, length);
}

/* Runs a command as a person would type it; returns what it printed, a vector (NULL: nothing). */
static u8 *
run (vlib_main_t *vm, const char *pattern, va_list *arguments)
{
  unformat_input_t input;
  u8 *output = 0;

  unformat_init_vector (&input, va_format (0, pattern, arguments));
  vlib_cli_input (vm, &input, take_output, (uword) &output);
  unformat_free (&input);
  return output;
}

static u8 *
command (vlib_main_t *vm, const char *pattern, ...)
{
  va_list arguments;
  u8 *output;

  va_start (arguments, pattern);
  output = run (vm, pattern, &arguments);
  va_end (arguments);
  return output;
}

/* Runs a command that prints nothing when all is well; returns whether it did, and logs what it printed. */
static int
settle (vlib_main_t *vm, const char *pattern, ...)
{
  va_list arguments;
  u8 *complaint;
  int ok;

  va_start (arguments, pattern);
  complaint = run (vm, pattern, &arguments);
  va_end (arguments);
  ok = vec_len (complaint) == 0;
  if (!ok)
    links_log (ERR, "%v", complaint);
  vec_free (complaint);
  return ok;
}

static u32
interface_by_name (const char *name)
{
  vnet_main_t *vnm = vnet_get_main ();
  u8 *full = format (0, "host-%s", name);
  uword *found = hash_get_mem (vnm->interface_main.hw_interface_by_name, full);

  vec_free (full);
  return found ? vnet_get_hw_interface (vnm, found[0])->sw_if_index : ~0;
}

static int
join_network (vlib_main_t *vm, const link_t *link)
{
  const u32 net = 4 * link->number;
  int ok;

  ok = settle (vm, "set interface ip address host-%s 169.254.118.%u/30", link->name, net + 1)
       && settle (vm, "enable ip6 interface host-%s", link->name)
       && settle (vm, "set ip neighbor static host-%s 169.254.118.%u " HOST_MAC, link->name, net + 2)
       && settle (vm, "set ip neighbor static host-%s " HOST_ADDRESS6 " " HOST_MAC, link->name);
  if (ok && link->number == 0)
    ok = settle (vm, "ip route add 0.0.0.0/0 via 169.254.118.%u host-%s", net + 2, link->name)
	 && settle (vm, "ip route add ::/0 via " HOST_ADDRESS6 " host-%s", link->name);
  return ok;
}

static void
close_link (vlib_main_t *vm, link_t *link)
{
  if (links_main.call)
    links_main.call (link->sw_if_index, link->is_ethernet, 0);
  if (!link->is_ethernet && link->number == 0)
    {
      settle (vm, "ip route del 0.0.0.0/0 via 169.254.118.2 host-%s", link->name);
      settle (vm, "ip route del ::/0 via " HOST_ADDRESS6 " host-%s", link->name);
    }
  settle (vm, "delete host-interface name %s", link->name);
  links_log (NOTICE, "%s is gone", link->name);
  link->kernel_index = 0;
  link->sw_if_index = ~0;
  link->mtu = 0;
  link->is_up = 0;
}

static int
open_link (vlib_main_t *vm, link_t *link, int kernel_index)
{
  u8 *output = command (
    vm, "create host-interface v2 name %s hw-addr " ENGINE_MAC " num-rx-queues %u rx-per-block %u tx-per-block %u", link->name,
    clib_max (clib_max (vlib_num_workers (), 1), links_main.rx_queues), RX_FRAMES, TX_FRAMES);

  link->sw_if_index = interface_by_name (link->name);
  if (link->sw_if_index == ~0)
    links_log (ERR, "%s cannot be taken: %v; is af_packet_plugin.so loaded, are CAP_NET_RAW and CAP_IPC_LOCK given?",
	       link->name, output);
  vec_free (output);
  if (link->sw_if_index == ~0)
    return 0;
  link->kernel_index = kernel_index;
  /* Before any packet can pass: one that passed without would reset its connection. */
  if (links_main.call)
    links_main.call (link->sw_if_index, link->is_ethernet, 1);
  if (!settle (vm, "set interface state host-%s up", link->name) || (!link->is_ethernet && !join_network (vm, link)))
    {
      close_link (vm, link);
      return 0;
    }
  links_log (NOTICE, "%s is served", link->name);
  return 1;
}

/* Returns the kernel's index of a link, 0 if there is none, its MTU, and whether packets pass on it. */
static int
kernel_link (const link_t *link, u32 *mtu, int *is_up)
{
  struct ifreq request = {};
  int index;

  *is_up = 0;
  memcpy (request.ifr_name, link->name, IFNAMSIZ);
  if (ioctl (links_main.fd, SIOCGIFINDEX, &request) < 0)
    return 0;
  index = request.ifr_ifindex;
  if (ioctl (links_main.fd, SIOCGIFMTU, &request) < 0)
    return 0;
  *mtu = request.ifr_mtu;
  if (ioctl (links_main.fd, SIOCGIFFLAGS, &request) < 0)
    return 0;
  *is_up = (request.ifr_flags & IFF_UP) && (request.ifr_flags & IFF_RUNNING);
  return index;
}

static void
look (vlib_main_t *vm, link_t *link)
{
  u32 mtu = 0;
  int is_up, index = kernel_link (link, &mtu, &is_up);

  if (link->kernel_index && link->kernel_index != index)
    close_link (vm, link);
  /* af_packet would set a link up that is down. */
  if (!link->kernel_index && index && is_up && vlib_time_now (vm) >= link->retry_at && !open_link (vm, link, index))
    link->retry_at = vlib_time_now (vm) + RETRY_SECONDS;
  if (link->kernel_index && link->mtu != mtu && settle (vm, "set interface mtu packet %u host-%s", mtu, link->name))
    link->mtu = mtu;
  link->is_up = link->kernel_index && is_up;
}

static uword
links_process (vlib_main_t *vm, vlib_node_runtime_t *rt, vlib_frame_t *f)
{
  links_main_t *lm = &links_main;
  link_t *link;

  while (vec_len (lm->links) == 0)
    vlib_process_suspend (vm, 1.0);
  lm->fd = socket (AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (lm->fd < 0)
    {
      links_log (ERR, "no link is served: socket: %s", strerror (errno));
      return 0;
    }
  while (1)
    {
      vec_foreach (link, lm->links)
	look (vm, link);
      vlib_process_suspend (vm, LOOK_SECONDS);
    }
  return 0;
}

VLIB_REGISTER_NODE (khost_links_node, static) = {
  .function = links_process,
  .type = VLIB_NODE_TYPE_PROCESS,
  .name = "khost-links",
  .process_log2_n_stack_bytes = 17,
};

void
khost_links_add (const char *name, int is_ethernet)
{
  links_main_t *lm = &links_main;
  link_t link = { .is_ethernet = is_ethernet, .sw_if_index = ~0 };

  if (vec_len (lm->links) == 0)
    lm->log_class = vlib_log_register_class ("khost", "links");
  snprintf (link.name, sizeof (link.name), "%s", name);
  if (!is_ethernet)
    link.number = lm->n_routed++;
  vec_add1 (lm->links, link);
}

void
khost_links_queues (u32 n)
{
  links_main.rx_queues = n;
}

void
khost_links_call (khost_link_fn *fn)
{
  links_main.call = fn;
}

const char **
khost_links_open (void)
{
  const char **names = 0;
  link_t *link;

  vec_foreach (link, links_main.links)
    if (link->is_up)
      vec_add1 (names, link->name);
  return names;
}
