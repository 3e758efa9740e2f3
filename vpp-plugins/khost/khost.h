/* SPDX-License-Identifier: Apache-2.0 */
/* khost: the plugin that owns the region in VPP. The plugins whose nodes run the kernels (klb, kgtpu) use its region, its workers' contexts and
 * its hold of fragments through khost_main_t; nothing is copied between them.
 *
 * A plugin that uses it defines `khost_main_t *khost;` in one source file that is not multiarch, sets it with khost_attach () in its
 * VLIB_INIT_FUNCTION, and does nothing at all if that fails. khost->region is NULL until khost's start-up section has been read (config
 * functions run after all init functions), and stays NULL without one. */
#ifndef included_khost_h
#define included_khost_h

#include <vlib/vlib.h>
#include <vlib/unix/plugin.h>
#include <vnet/vnet.h>
#include <vnet/ip/ip.h>

#include <fastpath/fp_records.h>

#define KHOST_MAX_FIBS 4096 /* of each family, by fib index */
#define KHOST_NO_VRF   (~0u) /* no kernel finds anything in it */

/* Context of one VPP thread; index = thread index. The main thread has one too: it carries packets where there are no worker threads. */
typedef struct
{
  CLIB_CACHE_LINE_ALIGN_MARK (c0);
  fp_worker_t fp;
  u64 clock_read; /* CPU clock when fp's time was set */
  u64 round_clock; /* CPU clock of the last round of the thread's loop */
  u64 longest_round; /* clocks from one round to the next, the most since `gap_era` began */
  u64 longest_own_round; /* of those in which the thread neither slept nor lost its CPU */
  u64 switches; /* how often it had, when that was last asked */
  u32 gap_era; /* khost_main_t.gap_era that they belong to */
  u64 age_ns, expire_ns; /* not before then is the next slice aged, are reassemblies looked at */
  u8 *large;	   /* memory for packets of several buffers (khost_large.h) */
  u32 held;	   /* packets handed to khost_keep and not given back yet */
} khost_worker_t;

/* A change of a record in the tables, told on the main thread: after an upsert, before a deletion. An upsert may change nothing, and may come for what
 * has been told already (a deletion that was then refused, replay): what the callee does must be the same however often it is told. A
 * deletion carries the whole record. The callee takes the worker barrier itself if, and only if, it has to touch the FIB. */
typedef void khost_record_fn (u32 table, const fp_wire_t *record, int is_delete);

/* Asked for INFO and `show khost`: whether switches of enum fp_gtpu_switch that only a forwarding graph can have are in effect. `on` holds the bits
 * that are; `form` is "fib" or "feature" (gtpuBypass) or NULL. */
typedef struct
{
  u32 on;
  const char *form;
} khost_switches_t;
typedef khost_switches_t khost_switches_fn (void);

typedef void khost_interface_fn (u32 sw_if_index, int is_ethernet, int enable);

/* Of what the plugins read in each other's memory: those built apart, of other sources, do not touch it. */
#define KHOST_ABI                                                                                                      \
  ((u64) sizeof (fp_region_t) << 48 ^ (u64) sizeof (khost_worker_t) << 32 ^ (u64) FP_COUNTERS << 24 ^ (u64) FP_DROPS << 16 ^ \
   (u64) sizeof (fp_counters_t) << 4 ^ sizeof (khost_main_t))

typedef struct khost_main
{
  u64 abi; /* KHOST_ABI; stays first */

  /* Read on the packet path. */
  khost_worker_t *workers; /* vector, by thread index */
  fp_region_t *region;
  u32 *vrf_by_fib4; /* KHOST_MAX_FIBS each: table id, or KHOST_NO_VRF */
  u32 *vrf_by_fib6;
  u32 n_workers; /* threads, the main thread included */
  u32 gap_era;	 /* raised to measure the longest round anew */

  /* Main thread. */
  /* `fn` is called once the region is open, before its records are told; at once if it is. */
  void (*on_attached) (void (*fn) (void));
  /* Tells `fn` of the records of the tables whose bit (1 << enum fp_table) is in `tables`, first of all that exist. Before the region is open: when it
   * is. */
  void (*on_record) (u32 tables, khost_record_fn *fn);
  /* kgtpu's answer to "what is in effect"; without it the switches count as not applicable. */
  void (*on_switches) (khost_switches_fn *fn);
  /* `fn` is called for each interface that packets of this product come in by: now and later with enable 1, later with 0. is_ethernet: it carries the frames
   * of GTP-U tunnels with Ethernet payload. */
  void (*on_interface) (khost_interface_fn *fn);
  /* Learns the table id of a FIB that packets may come in by other ways than an interface bound to it (those are learnt by themselves). */
  void (*learn_fib) (fib_protocol_t protocol, u32 fib_index);
  u16 msg_id_base;
} khost_main_t;

extern khost_main_t *khost;

/* Name under which khost_plugin.so exports its khost_main_t. */
#define KHOST_PLUGIN "khost_plugin.so"
#define KHOST_SYMBOL "khost_exported_main"

always_inline khost_main_t *
khost_attach (void)
{
  khost_main_t *found = vlib_get_plugin_symbol (KHOST_PLUGIN, KHOST_SYMBOL);

  if (found && found->abi != KHOST_ABI)
    {
      clib_warning ("khost_plugin.so was built from other sources than this plugin, which stays out of it: build and install them together");
      return NULL;
    }
  return found;
}

always_inline khost_worker_t *
khost_worker (u32 thread_index)
{
  return &khost->workers[thread_index];
}

always_inline u32
khost_vrf4 (u32 fib_index)
{
  return PREDICT_TRUE (fib_index < KHOST_MAX_FIBS) ? khost->vrf_by_fib4[fib_index] : KHOST_NO_VRF;
}

always_inline u32
khost_vrf6 (u32 fib_index)
{
  return PREDICT_TRUE (fib_index < KHOST_MAX_FIBS) ? khost->vrf_by_fib6[fib_index] : KHOST_NO_VRF;
}

/* ---- fragments held back ----
 * A node sets fp_packet_t.cookie to khost_cookie () before the kernel runs. On FP_HOLD it keeps the buffer (enqueues it nowhere, frees it not) and
 * calls khost_keep. When the first fragment has come, the tick gives the buffer back to `node_index` as it was; one that waited too long is
 * freed. */
always_inline u64
khost_cookie (u32 buffer_index, u32 node_index)
{
  return (u64) node_index << 32 | buffer_index;
}

always_inline void
khost_keep (khost_worker_t *w)
{
  w->held++;
}

#endif /* included_khost_h */
