/* SPDX-License-Identifier: Apache-2.0 */
/* Which interface is the link for frames, and what people are shown of it. */
#include <kgtpu/frames.h>
#include <vnet/feature/feature.h>
#include <vnet/interface_funcs.h>

#include <fastpath/fp_control.h>

VNET_FEATURE_INIT (kgtpu_frame_input, static) = {
  .arc_name = "device-input",
  .node_name = "kgtpu-frame-input",
  .runs_before = VNET_FEATURES ("ethernet-input"),
};

static u32
mtu_of (u32 sw_if_index)
{
  return vnet_sw_interface_get_mtu (vnet_get_main (), sw_if_index, VNET_MTU_L3);
}

/* Frames go out by the first of the interfaces. */
static void
choose (void)
{
  kgtpu_frames_t *f = &kgtpu_main.frames;
  const u32 link = vec_len (f->interfaces) ? f->interfaces[0] : ~0;

  clib_atomic_store_relax_n (&f->mtu, link == ~0 ? 0 : mtu_of (link));
  clib_atomic_store_rel_n (&f->link, link);
}

static void
forget (u32 sw_if_index)
{
  kgtpu_frames_t *f = &kgtpu_main.frames;
  const u32 at = vec_search (f->interfaces, sw_if_index);

  if (at == ~0)
    return;
  vec_delete (f->interfaces, 1, at);
  choose ();
}

void
kgtpu_frames_wanted (u32 sw_if_index, int enable)
{
  kgtpu_frames_t *f = &kgtpu_main.frames;
  const int is_there = vec_search (f->interfaces, sw_if_index) != ~0;

  if (!enable == !is_there)
    return;
  vnet_feature_enable_disable ("device-input", "kgtpu-frame-input", sw_if_index, enable, 0, 0);
  if (!enable)
    {
      forget (sw_if_index);
      return;
    }
  vec_add1 (f->interfaces, sw_if_index);
  choose ();
}

void
kgtpu_frames_init (void)
{
  kgtpu_main.frames.link = ~0;
}

/* What was on an interface goes with it. */
static clib_error_t *
interface_changed (vnet_main_t *vnm, u32 sw_if_index, u32 is_add)
{
  if (!is_add)
    forget (sw_if_index);
  return 0;
}

VNET_SW_INTERFACE_ADD_DEL_FUNCTION (interface_changed);

static clib_error_t *
mtu_changed (vnet_main_t *vnm, u32 sw_if_index, u32 flags)
{
  if (sw_if_index == kgtpu_main.frames.link)
    choose ();
  return 0;
}

VNET_SW_INTERFACE_MTU_CHANGE_FUNCTION (mtu_changed);

/* ---- for people ---- */

u8 *
format_kgtpu_frame_trace (u8 *s, va_list *args)
{
  CLIB_UNUSED (vlib_main_t * vm) = va_arg (*args, vlib_main_t *);
  CLIB_UNUSED (vlib_node_t * node) = va_arg (*args, vlib_node_t *);
  const kgtpu_frame_trace_t *t = va_arg (*args, kgtpu_frame_trace_t *);
  const u32 indent = format_get_indent (s);

  s = format (s, "%U -> %U type 0x%04x VLAN %u, %u bytes\n%U", format_mac_address, t->header + 6, format_mac_address, t->header,
	      fp_net16 (fp_load16 (t->header + 12)), t->vlan, t->bytes, format_white_space, indent);
  if (t->verdict.action == FP_FORWARD)
    s = format (s, "forward to peer %u%s", t->peer, t->skipped ? " by its adjacency" : " by lookup");
  else
    s = format (s, "drop: %s (%s)", fp_drop_name (t->verdict.reason), fp_drop_text (t->verdict.reason));
  return format (s, ", next %u", t->next);
}

static clib_error_t *
show_frames (vlib_main_t *vm, unformat_input_t *input, vlib_cli_command_t *cmd)
{
  const kgtpu_frames_t *f = &kgtpu_main.frames;
  const u32 *i;

  if (vec_len (f->interfaces) == 0)
    vlib_cli_output (vm, "no link for frames: tunnels with Ethernet payload drop what comes out of them (start-up section `khost { ethernet-interface "
			 "NAME }', or `set khost interface NAME ethernet')");
  vec_foreach (i, f->interfaces)
    vlib_cli_output (vm, "%U: frames of VLAN n go into the tunnel of VLAN n%s", format_vnet_sw_if_index_name, vnet_get_main (), *i,
		     *i == f->link ? ", frames of all tunnels come out here with that tag" : "");
  if (f->link != ~0)
    vlib_cli_output (vm, "frames of at most %u bytes behind their header come out", f->mtu);
  return 0;
}

VLIB_CLI_COMMAND (show_kgtpu_frames_command, static) = {
  .path = "show kgtpu frames",
  .short_help = "show kgtpu frames",
  .function = show_frames,
};
