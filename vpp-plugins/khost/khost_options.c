/* SPDX-License-Identifier: Apache-2.0 */
/* Start-up section:
 *
 *   khost {
 *     region PATH            file with tables and sessions, which a restarted engine goes on with; without it the plugin does nothing
 *     sessions N             capacities, as vpp-embedded's options of the same names: sessions of each address family, ...
 *     services N  frontends N  endpoints N  prefixes N  fragments N  tunnels N  ues N  gtpu-endpoints N  gtpu-peers N
 *     interface NAME         a host link to serve (khost/links.h); up to 8
 *     ethernet-interface NAME
 *     rx-queues N            receive queues of each link; never less than one for each thread that forwards, which is what it has without
 *   } */
#include <khost/khost_internal.h>
#include <khost/links.h>

typedef struct
{
  const char *name;
  u32 offset;
  u32 low, high;
} capacity_option_t;

#define OPTION(name, field, low, high) { name, STRUCT_OFFSET_OF (host_sizes_t, field), low, high }

static const capacity_option_t capacity_options[] = {
  OPTION ("sessions", sessions, 64, 16 << 20),
  OPTION ("services", services, 1, 1 << 20),
  OPTION ("frontends", frontends, 1, 1 << 22),
  OPTION ("endpoints", endpoints, 1, 1 << 23),
  OPTION ("prefixes", prefixes, 1, 1 << 16),
  OPTION ("fragments", fragments, 64, 1 << 20),
  OPTION ("tunnels", tunnels, 1, 1 << 22),
  OPTION ("ues", ues, 0, 1 << 23),
  OPTION ("gtpu-endpoints", gtpu_endpoints, 1, 1024),
  OPTION ("gtpu-peers", gtpu_peers, 1, 1 << 16),
};

#define LINKS 8

static const capacity_option_t *
find (const u8 *name)
{
  for (u32 i = 0; i < ARRAY_LEN (capacity_options); i++)
    if (!strcmp (capacity_options[i].name, (const char *) name))
      return &capacity_options[i];
  return NULL;
}

static clib_error_t *
parse_one (khost_options_t *o, unformat_input_t *input, u32 *links)
{
  const capacity_option_t *option;
  clib_error_t *error = NULL;
  u8 *name = NULL;
  u64 value;

  if (unformat (input, "region %s", &name))
    {
      vec_free (o->region);
      o->region = (char *) name;
      return NULL;
    }
  if (unformat (input, "ethernet-interface %s", &name))
    khost_links_add ((char *) name, 1);
  else if (unformat (input, "interface %s", &name))
    {
      if (++*links > LINKS)
	error = clib_error_return (0, "khost: interface %s: at most %u", name, LINKS);
      else
	khost_links_add ((char *) name, 0);
    }
  else if (unformat (input, "rx-queues %lu", &value))
    {
      if (value < 1 || value > KHOST_MAX_RX_QUEUES)
	error = clib_error_return (0, "khost: rx-queues %lu: give a number from 1 to %u", value, KHOST_MAX_RX_QUEUES);
      else
	khost_links_queues ((u32) value);
    }
  else if (unformat (input, "%s %lu", &name, &value))
    {
      option = find (name);
      if (!option)
	error = clib_error_return (0, "khost: %s: no such setting", name);
      else if (value < option->low || value > option->high)
	error = clib_error_return (0, "khost: %s %lu: give a number from %u to %u", name, value, option->low, option->high);
      else
	*(u32 *) ((u8 *) &o->sizes + option->offset) = (u32) value;
    }
  else
    error = clib_error_return (0, "khost: unknown setting `%U'", format_unformat_error, input);
  vec_free (name);
  return error;
}

clib_error_t *
khost_options_parse (khost_options_t *o, unformat_input_t *input)
{
  clib_error_t *error;
  u32 links = 0;

  o->sizes = host_sizes_usual;
  while (unformat_check_input (input) != UNFORMAT_END_OF_INPUT)
    {
      error = parse_one (o, input, &links);
      if (error)
	return error;
    }
  return NULL;
}
