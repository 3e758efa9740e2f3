/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the plugin khost share. */
#ifndef included_khost_internal_h
#define included_khost_internal_h

#include <khost/khost.h>
#include <host/region.h>

/* The Makefile takes it from pyproject.toml. */
#ifndef VPP_OPERATOR_VERSION
#define VPP_OPERATOR_VERSION "0.1.0"
#endif

typedef struct
{
  char *region; /* path; NULL: the plugin has nothing to do */
  host_sizes_t sizes;
} khost_options_t;

typedef struct
{
  u32 tables;
  khost_record_fn *fn;
} khost_listener_t;

typedef struct
{
  u32 sw_if_index;
  u8 is_ethernet;
} khost_interface_t;

/* Main thread. */
typedef struct
{
  host_t host; /* first: host.functions get it back */
  khost_options_t options;
  fp_region_t region;
  u8 open;
  u8 started; /* the main loop has been entered: listeners have been told */
  khost_listener_t *listeners;
  khost_interface_fn **interface_listeners;
  khost_interface_t *interfaces;
  void (**attached_listeners) (void);
  khost_switches_fn *switches;
  u32 signal_buffer; /* taken for the next signalling packet, ~0: none */
  u32 process_node_index;
  u64 calls, calls_refused;
  vlib_log_class_t log_class;
} khost_control_t;

extern khost_main_t khost_exported_main;
extern khost_control_t khost_control;
extern const host_functions_t khost_host_functions;

#define khost_log(level, ...) vlib_log (VLIB_LOG_LEVEL_##level, khost_control.log_class, __VA_ARGS__)

clib_error_t *khost_options_parse (khost_options_t *o, unformat_input_t *input);
clib_error_t *khost_region_open (vlib_main_t *vm);
void khost_region_stop (void);

/* Tells listeners of all records: one table at a time, what is referred to first. */
void khost_replay (const khost_listener_t *listener);

/* VRFs of one address family in this VPP, whoever made them: an IPv4 one takes 320 KiB of the main heap. More are refused with -ENOSPC. */
#define KHOST_MAX_VRFS 256

/* Whether listeners may be told of a record: not if it names a VRF too many, which another engine may have left in the region. */
int khost_is_servable (u32 table, const fp_wire_t *record);

/* Packets of an interface are ours from now on, or no more. 0 or a VNET_API_ERROR. */
int khost_interface_enable (u32 sw_if_index, int is_ethernet, int enable);

/* The process looks at what is due now (khost_process.c). */
void khost_process_wake (vlib_main_t *vm);

void khost_stats_init (vlib_main_t *vm);
void khost_stats_services_init (void);
void khost_stats_services_collect (void);

/* Nanoseconds of the longest round of a thread's loop since the start, or since they were cleared. */
u64 khost_longest_round (u32 thread_index);

#endif /* included_khost_internal_h */
