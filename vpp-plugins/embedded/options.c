/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "log.h"

enum
{
  OPT_INTERFACE = 256,
  OPT_ETHERNET_INTERFACE,
  OPT_SOCKET,
  OPT_REGION,
  OPT_WORKERS,
  OPT_SESSIONS,
  OPT_SERVICES,
  OPT_FRONTENDS,
  OPT_ENDPOINTS,
  OPT_PREFIXES,
  OPT_FRAGMENTS,
  OPT_TUNNELS,
  OPT_UES,
  OPT_GTPU_ENDPOINTS,
  OPT_GTPU_PEERS,
  OPT_RING_FRAMES,
  OPT_BUSY_POLL,
  OPT_SETTINGS,
  OPT_CHECK,
  OPT_HELP,
  OPT_VERSION,
};

static const struct option long_options[] = {
  { "interface", required_argument, NULL, OPT_INTERFACE },
  { "ethernet-interface", required_argument, NULL, OPT_ETHERNET_INTERFACE },
  { "socket", required_argument, NULL, OPT_SOCKET },
  { "region", required_argument, NULL, OPT_REGION },
  { "workers", required_argument, NULL, OPT_WORKERS },
  { "sessions", required_argument, NULL, OPT_SESSIONS },
  { "services", required_argument, NULL, OPT_SERVICES },
  { "frontends", required_argument, NULL, OPT_FRONTENDS },
  { "endpoints", required_argument, NULL, OPT_ENDPOINTS },
  { "prefixes", required_argument, NULL, OPT_PREFIXES },
  { "fragments", required_argument, NULL, OPT_FRAGMENTS },
  { "tunnels", required_argument, NULL, OPT_TUNNELS },
  { "ues", required_argument, NULL, OPT_UES },
  { "gtpu-endpoints", required_argument, NULL, OPT_GTPU_ENDPOINTS },
  { "gtpu-peers", required_argument, NULL, OPT_GTPU_PEERS },
  { "ring-frames", required_argument, NULL, OPT_RING_FRAMES },
  { "busy-poll-us", required_argument, NULL, OPT_BUSY_POLL },
  { "settings", required_argument, NULL, OPT_SETTINGS },
  { "check", no_argument, NULL, OPT_CHECK },
  { "help", no_argument, NULL, OPT_HELP },
  { "version", no_argument, NULL, OPT_VERSION },
  { NULL, 0, NULL, 0 },
};

static const char usage[]
  = "Usage: vpp-embedded [OPTION]...\n"
    "Moves the packets of Kubernetes Services and GTP-U tunnels by the operator's packet kernels, without VPP.\n"
    "\n"
    "  --interface NAME      engine's end of a host link; may be given up to 8 times (default vpp1).\n"
    "                        It may be absent: the engine waits for it, also after it went away\n"
    "  --ethernet-interface NAME\n"
    "                        engine's end of a link for GTP-U tunnels that carry Ethernet: their frames, tagged\n"
    "                        with the tunnel's VLAN (default vppe1); may be absent as well\n"
    "  --socket PATH         control socket (default /run/vpp-operator/embedded.sock, mode 0660)\n"
    "  --region PATH         file with tables and sessions, which a restarted engine goes on with\n"
    "                        (default /run/vpp-operator/region; on tmpfs or hugetlbfs)\n"
    "  --workers N           packet threads, 1 to 32 (default 1)\n"
    "  --sessions N          capacity for sessions of each address family (default 262144)\n"
    "  --services N          capacity for service ports (default 16384)\n"
    "  --frontends N         capacity for addresses and ports of services (default 32768)\n"
    "  --endpoints N         capacity for endpoints of service ports (default 131072)\n"
    "  --prefixes N          capacity for classified prefixes (default 1024)\n"
    "  --fragments N         capacity for datagrams in fragments (default 16384)\n"
    "  --tunnels N           capacity for GTP-U tunnels (default 16384)\n"
    "  --ues N               capacity for prefixes of user equipment behind tunnels\n"
    "                        (default and 0: twice the tunnels)\n"
    "  --gtpu-endpoints N    capacity for local GTP-U addresses (default 64)\n"
    "  --gtpu-peers N        capacity for GTP-U peers (default 4096)\n"
    "  --ring-frames N       frames in the receive ring of each worker and interface, 65 KiB each\n"
    "                        (default 512, 32 to 8192)\n"
    "  --busy-poll-us N      microseconds a loaded worker looks for packets before it sleeps\n"
    "                        (default 20; 0: sleeps at once)\n"
    "  --settings FILE       more options, one `name=value` a line (workers=2), which win over those given\n"
    "                        here; the file may be absent, and lines that are no good are left out\n"
    "  --check               ask the engine at --socket for its state; exit status 0 if it answers\n"
    "  --help, --version\n"
    "\n"
    "Another capacity than the region's makes a new region: sessions are lost then, and the agent\n"
    "programs the tables again. Needs CAP_NET_RAW and nothing else; gives up all other capabilities.\n"
    "SIGTERM and SIGINT end the program; sessions and tables stay in the region, as they do when it is killed.\n";

static int
parse_number (const char *option, const char *text, uint32_t low, uint32_t high, uint32_t *value)
{
  char *end;
  unsigned long number;

  errno = 0;
  number = strtoul (text, &end, 10);
  if (errno || end == text || *end || text[0] == '-' || number < low || number > high)
    {
      fprintf (stderr, "vpp-embedded: --%s %s: give a number from %u to %u\n", option, text, low, high);
      return 2;
    }
  *value = (uint32_t) number;
  return -1;
}

static int
check_name (const char *option, const char *name)
{
  if (name[0] && strlen (name) < IF_NAMESIZE)
    return -1;
  fprintf (stderr, "vpp-embedded: --%s %s: an interface name has 1 to %d characters\n", option, name, IF_NAMESIZE - 1);
  return 2;
}

static int
parse_interface (emb_options_t *o, const char *name)
{
  if (check_name ("interface", name) >= 0)
    return 2;
  if (o->n_interfaces == EMB_MAX_INTERFACES - 1)
    {
      fprintf (stderr, "vpp-embedded: --interface: at most %d interfaces\n", EMB_MAX_INTERFACES - 1);
      return 2;
    }
  for (uint32_t i = 0; i < o->n_interfaces; i++)
    if (strcmp (o->interfaces[i], name) == 0)
      {
	fprintf (stderr, "vpp-embedded: --interface %s is given twice\n", name);
	return 2;
      }
  o->interfaces[o->n_interfaces++] = name;
  return -1;
}

static int
parse_one (emb_options_t *o, int option, const char *argument)
{
  switch (option)
    {
    case OPT_INTERFACE:
      return parse_interface (o, argument);
    case OPT_ETHERNET_INTERFACE:
      o->ethernet_interface = argument;
      return check_name ("ethernet-interface", argument);
    case OPT_SOCKET:
      if (argument[0] == 0 || strlen (argument) >= sizeof (((struct sockaddr_un *) 0)->sun_path))
	{
	  fprintf (stderr, "vpp-embedded: --socket: a path has 1 to %zu characters\n",
		   sizeof (((struct sockaddr_un *) 0)->sun_path) - 1);
	  return 2;
	}
      o->socket = argument;
      return -1;
    case OPT_REGION:
      o->region = argument;
      return -1;
    case OPT_WORKERS:
      return parse_number ("workers", argument, 1, EMB_MAX_WORKERS, &o->workers);
    case OPT_SESSIONS:
      return parse_number ("sessions", argument, 64, 16 << 20, &o->sizes.sessions);
    case OPT_SERVICES:
      return parse_number ("services", argument, 1, 1 << 20, &o->sizes.services);
    case OPT_FRONTENDS:
      return parse_number ("frontends", argument, 1, 1 << 22, &o->sizes.frontends);
    case OPT_ENDPOINTS:
      return parse_number ("endpoints", argument, 1, 1 << 23, &o->sizes.endpoints);
    case OPT_PREFIXES:
      return parse_number ("prefixes", argument, 1, 1 << 16, &o->sizes.prefixes);
    case OPT_FRAGMENTS:
      return parse_number ("fragments", argument, 64, 1 << 20, &o->sizes.fragments);
    case OPT_TUNNELS:
      return parse_number ("tunnels", argument, 1, 1 << 22, &o->sizes.tunnels);
    case OPT_UES:
      return parse_number ("ues", argument, 0, 1 << 23, &o->sizes.ues);
    case OPT_GTPU_ENDPOINTS:
      return parse_number ("gtpu-endpoints", argument, 1, 1024, &o->sizes.gtpu_endpoints);
    case OPT_GTPU_PEERS:
      return parse_number ("gtpu-peers", argument, 1, 1 << 16, &o->sizes.gtpu_peers);
    case OPT_RING_FRAMES:
      return parse_number ("ring-frames", argument, 32, 8192, &o->ring_frames);
    case OPT_BUSY_POLL:
      return parse_number ("busy-poll-us", argument, 0, 10000, &o->busy_poll_us);
    case OPT_SETTINGS:
      o->settings = argument;
      return -1;
    case OPT_CHECK:
      o->check = true;
      return -1;
    case OPT_HELP:
      fputs (usage, stdout);
      return 0;
    case OPT_VERSION:
      printf ("vpp-embedded %s\n", EMB_VERSION);
      return 0;
    default:
      fputs ("Try 'vpp-embedded --help'.\n", stderr);
      return 2;
    }
}

/* Numbers only: names and paths belong to the pod's template. */
static int
parse_setting (emb_options_t *o, char *line)
{
  char *value = strchr (line, '=');

  if (!value)
    return 2;
  *value++ = 0;
  for (const struct option *option = long_options; option->name; option++)
    if (strcmp (option->name, line) == 0 && option->val >= OPT_WORKERS && option->val <= OPT_BUSY_POLL)
      return parse_one (o, option->val, value);
  return 2;
}

static void
read_settings (emb_options_t *o)
{
  char line[256], copy[256];
  FILE *file = fopen (o->settings, "re");

  if (!file)
    {
      if (errno != ENOENT)
	EMB_LOG (EMB_WARNING, "settings cannot be read", host_json_str (&j, "file", o->settings),
		 host_json_str (&j, "error", strerror (errno)));
      return;
    }
  while (fgets (line, sizeof (line), file))
    {
      line[strcspn (line, "\r\n")] = 0;
      if (line[0] == 0 || line[0] == '#')
	continue;
      strcpy (copy, line);
      if (parse_setting (o, copy) >= 0)
	EMB_LOG (EMB_WARNING, "setting left out: it is none, or out of range (see --help)",
		 host_json_str (&j, "file", o->settings), host_json_str (&j, "line", line));
    }
  fclose (file);
}

int
emb_options_parse (emb_options_t *o, int argc, char **argv)
{
  int option, rv;

  *o = (emb_options_t){
    .ethernet_interface = "vppe1",
    .socket = "/run/vpp-operator/embedded.sock",
    .region = "/run/vpp-operator/region",
    .workers = 1,
    .sizes = host_sizes_usual,
    .ring_frames = 512,
    .busy_poll_us = 20,
  };
  while ((option = getopt_long (argc, argv, "", long_options, NULL)) != -1)
    if ((rv = parse_one (o, option, optarg)) >= 0)
      return rv;
  if (optind < argc)
    {
      fprintf (stderr, "vpp-embedded: %s: no such argument; options start with --\n", argv[optind]);
      return 2;
    }
  if (o->settings)
    read_settings (o);
  if (o->n_interfaces == 0)
    o->interfaces[o->n_interfaces++] = "vpp1";
  for (uint32_t i = 0; i < o->n_interfaces; i++)
    if (strcmp (o->interfaces[i], o->ethernet_interface) == 0)
      {
	fprintf (stderr, "vpp-embedded: --interface %s is --ethernet-interface too; give it once\n", o->interfaces[i]);
	return 2;
      }
  o->frames_interface = o->n_interfaces;
  o->interfaces[o->n_interfaces++] = o->ethernet_interface;
  return -1;
}
