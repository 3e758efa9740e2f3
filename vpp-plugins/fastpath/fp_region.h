/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing the region: the mapped file, its lock, the process-local handle. Needs _GNU_SOURCE (locks of the open file description). */
#ifndef FP_REGION_H
#define FP_REGION_H

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fp_attach.h"
#include "fp_huge.h"
#include "fp_layout.h"

#ifndef F_OFD_SETLK
#error "define _GNU_SOURCE before the first include"
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

typedef struct
{
  u8 attached;		/* 1: sessions and tables of before are in use; 0: everything is new */
  u8 discarded;		/* 1: there was a region, or what looked like one, that could not be used */
  const char *reason;	/* why not attached ("" if attached) */
  char message[200];	/* what failed and the remedy, if fp_region_open failed */
  u64 sessions;		/* kept, both families */
  u64 creation_id;
  u64 layout;
  char boot_id[40];
  u64 bytes;
  u64 ns; /* time that opening took */
  u8 was_clean;
  fp_attach_report_t repair;
} fp_region_report_t;

FP_INLINE u64
fp_now_ns (void)
{
  struct timespec t;
  clock_gettime (CLOCK_BOOTTIME, &t);
  return (u64) t.tv_sec * 1000000000u + (u64) t.tv_nsec;
}

FP_INLINE void
fp_boot_id (char id[40])
{
  memset (id, 0, 40);
  int fd = open ("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return;
  ssize_t n = read (fd, id, 36);
  if (n != 36)
    memset (id, 0, 40);
  close (fd);
}

FP_INLINE int
fp_region_fail (fp_region_report_t *rep, int error, const char *path, const char *what)
{
  snprintf (rep->message, sizeof (rep->message), "region %s: %s (%s)", path ? path : "(anonymous)", what, strerror (error));
  return -error;
}

/* ---- the mapping ---- */

/* Shared memory takes 2 MiB pages only where file offset and address agree modulo 2 MiB: a large region begins at such an address. */
FP_INLINE void *
fp_region_mmap (const fp_region_t *r)
{
  int flags = r->fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
  if (r->size < FP_HUGE_PAGE)
    return mmap (NULL, r->size, PROT_READ | PROT_WRITE, flags, r->fd, 0);
  u8 *hole = mmap (NULL, r->size + FP_HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (hole == MAP_FAILED)
    return MAP_FAILED;
  u64 skip = -(uintptr_t) hole & (FP_HUGE_PAGE - 1);
  u64 behind = (skip + r->size + FP_PAGE - 1) / FP_PAGE * FP_PAGE;
  void *base = mmap (hole + skip, r->size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, r->fd, 0);
  if (skip)
    munmap (hole, skip);
  if (base == MAP_FAILED) /* hugetlbfs with larger pages, for one */
    {
      munmap (hole + skip, r->size + FP_HUGE_PAGE - skip);
      return mmap (NULL, r->size, PROT_READ | PROT_WRITE, flags, r->fd, 0);
    }
  if (behind < r->size + FP_HUGE_PAGE)
    munmap (hole + behind, r->size + FP_HUGE_PAGE - behind);
  return base;
}

FP_INLINE int
fp_region_map (fp_region_t *r, const char *path, fp_region_report_t *rep)
{
  void *base = fp_region_mmap (r);
  if (base == MAP_FAILED)
    return fp_region_fail (rep, errno, path, "cannot be mapped; lower the capacities or give the process more memory");
  r->base = base;
  madvise (base, r->size, MADV_DONTDUMP);
  madvise (base, r->size, MADV_HUGEPAGE); /* where tmpfs takes the advice */
  if (madvise (base, r->size, MADV_POPULATE_WRITE) && errno != EINVAL)
    return fp_region_fail (rep, errno, path, "not enough memory for the tables; lower the capacities or raise the memory limit");
  return 0;
}

/* Ask the kernel to put the region on 2 MiB pages, whatever its setting for shared memory (Linux 6.1). Bytes of the whole pages that lie on
 * such pages now, or 0: it went on as it was. Reads and writes may go on meanwhile. */
FP_INLINE u64
fp_region_collapse (const fp_region_t *r)
{
  u64 whole = r->size & ~(FP_HUGE_PAGE - 1);
  return whole && !madvise (r->base, whole, MADV_COLLAPSE) ? whole : 0;
}

/* Every byte of the file is there before it is mapped: what does not fit is an error here, not a SIGBUS later. */
FP_INLINE int
fp_region_allocate (fp_region_t *r, const char *path, int anew, fp_region_report_t *rep)
{
  if (r->fd < 0)
    return 0;
  if (anew && (ftruncate (r->fd, 0) || ftruncate (r->fd, (off_t) r->size)))
    return fp_region_fail (rep, errno, path, "cannot be resized");
  int rc = posix_fallocate (r->fd, 0, (off_t) r->size);
  if (rc)
    return fp_region_fail (rep, rc, path, "does not fit on its file system; lower the capacities or enlarge it");
  return 0;
}

FP_INLINE int
fp_region_lock (fp_region_t *r, const char *path, fp_region_report_t *rep)
{
  r->fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (r->fd < 0)
    return fp_region_fail (rep, errno, path, "cannot be opened; check the directory and its permissions");
  struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
  if (fcntl (r->fd, F_OFD_SETLK, &lock))
    {
      int error = errno == EACCES ? EAGAIN : errno;
      return fp_region_fail (rep, error == EAGAIN ? EBUSY : error, path, "in use by another engine; stop that one first");
    }
  return 0;
}

/* ---- the handle ---- */

FP_INLINE void
fp_region_index (fp_region_t *r, fp_index_t *x, const fp_table_layout_t *l)
{
  x->buckets = (fp_bucket_t *) (r->base + l->buckets_at);
  x->mask = l->buckets - 1;
  x->overflow = (fp_bucket_t *) (r->base + l->overflow_at);
  x->overflow_size = l->overflow;
}

/* Pool and its links, zeroed by the kernel as they are used. NULL without memory. */
FP_INLINE fp_pool_t *
fp_pool_new (u32 capacity)
{
  size_t links = ((size_t) capacity * sizeof (u64) + FP_CACHE_LINE - 1) / FP_CACHE_LINE * FP_CACHE_LINE;
  void *memory = mmap (NULL, sizeof (fp_pool_t) + links, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    return NULL;
  fp_pool_t *p = memory;
  fp_pool_init (p, (_Atomic u64 *) (p + 1), capacity, 0);
  return p;
}

FP_INLINE void
fp_pool_delete (fp_pool_t *p)
{
  if (p)
    munmap (p, sizeof (*p) + ((size_t) p->capacity * sizeof (u64) + FP_CACHE_LINE - 1) / FP_CACHE_LINE * FP_CACHE_LINE);
}

FP_INLINE int
fp_region_handle (fp_region_t *r, const fp_layout_t *l, u32 workers)
{
  r->workers = workers;
  for (u32 t = 0; t < FP_SHARED_TABLES; t++)
    {
      fp_shared_table_t *s = &r->shared[t];
      fp_region_index (r, &s->index, &l->shared[t]);
      s->records = r->base + l->shared[t].records_at;
      s->capacity = l->shared[t].capacity;
      s->pool = fp_pool_new (s->capacity);
      s->index.overflow_pool = fp_pool_new (s->index.overflow_size);
      if (!s->pool || !s->index.overflow_pool)
	return -ENOMEM;
    }
  for (u32 t = 0; t < FP_CONTROLLED_TABLES; t++)
    {
      fp_control_table_t *c = &r->controlled[t];
      fp_region_index (r, &c->index, &l->controlled[t]);
      c->records = r->base + l->controlled[t].records_at;
      c->capacity = l->controlled[t].capacity;
      c->index.overflow_pool = fp_pool_new (c->index.overflow_size);
      if (!c->index.overflow_pool)
	return -ENOMEM;
    }
  r->arrays = (u32 *) (r->base + l->arrays_at);
  r->array_words = l->array_words;
  r->quiescence = aligned_alloc (FP_CACHE_LINE, sizeof (*r->quiescence));
  r->counters = aligned_alloc (FP_CACHE_LINE, (FP_MAX_WORKERS + 1) * sizeof (*r->counters));
  r->crc_table = malloc (FP_CRC_TABLE * sizeof (u32));
  if (!r->quiescence || !r->counters || !r->crc_table)
    return -ENOMEM;
  fp_quiescence_init (r->quiescence);
  memset (r->counters, 0, (FP_MAX_WORKERS + 1) * sizeof (*r->counters));
  fp_crc32c_table (r->crc_table);
  const fp_header_t *h = (const fp_header_t *) r->base;
  r->hash = (fp_hash_t){ h->hash_crc, fp_crc32c_hardware (), { h->hash_mix[0], h->hash_mix[1] }, r->crc_table };
  r->creation_id = h->creation_id;
  return fp_service_counters_init (r) || fp_gtpu_tables_init (r) ? -ENOMEM : fp_control_init (r);
}

FP_INLINE void
fp_region_release (fp_region_t *r)
{
  fp_control_release (r);
  fp_gtpu_tables_release (r);
  fp_service_counters_release (r);
  for (u32 t = 0; t < FP_SHARED_TABLES; t++)
    {
      fp_pool_delete (r->shared[t].pool);
      fp_pool_delete (r->shared[t].index.overflow_pool);
    }
  for (u32 t = 0; t < FP_CONTROLLED_TABLES; t++)
    fp_pool_delete (r->controlled[t].index.overflow_pool);
  free (r->quiescence);
  free (r->counters);
  free (r->crc_table);
  if (r->base)
    munmap (r->base, r->size);
  if (r->fd >= 0)
    close (r->fd);
  memset (r, 0, sizeof (*r));
  r->fd = -1;
}

/* ---- open, close ---- */

FP_INLINE int
fp_region_create (fp_region_t *r, const char *path, const char *boot_id, fp_region_report_t *rep)
{
  u64 random[4];
  int rc = fp_region_allocate (r, path, 1, rep);
  if (!rc)
    rc = fp_region_map (r, path, rep);
  if (rc)
    return rc;
  if (getrandom (random, sizeof (random), 0) != sizeof (random))
    return fp_region_fail (rep, EIO, path, "no random numbers for the hash");
  fp_header_t *h = (fp_header_t *) r->base;
  h->byte_order = FP_BYTE_ORDER;
  h->hash_id = FP_HASH_ID;
  h->layout = fp_layout_hash ();
  h->size = r->size;
  h->capacity = r->capacity;
  h->creation_id = random[0];
  memcpy (h->boot_id, boot_id, sizeof (h->boot_id));
  h->hash_crc = (u32) random[1];
  h->hash_mix[0] = random[2] | 1;
  h->hash_mix[1] = random[3];
  h->digest = fp_header_digest (h);
  __atomic_store_n (&h->magic, FP_MAGIC, __ATOMIC_RELEASE);
  return 0;
}

/* Whether the file can be attached to; if so it is mapped. */
FP_INLINE int
fp_region_try (fp_region_t *r, const char *path, const char *boot_id, fp_region_report_t *rep)
{
  struct stat st;
  fp_header_t h;
  if (fstat (r->fd, &st))
    return fp_region_fail (rep, errno, path, "cannot be examined");
  if (st.st_size == 0)
    rep->reason = "there was no region";
  else if (pread (r->fd, &h, sizeof (h), 0) != (ssize_t) sizeof (h))
    rep->reason = "the file is no region, or its creation was cut short";
  else
    rep->reason = fp_header_refused (&h, &r->capacity, boot_id, r->size, (u64) st.st_size);
  rep->discarded = rep->reason && st.st_size > 0;
  if (rep->reason)
    return 0;
  int rc = fp_region_allocate (r, path, 0, rep);
  return rc ? rc : fp_region_map (r, path, rep);
}

/* Attach to the region in the file at path, or make a new one there (also when the old one cannot be used: rep->reason says why). path NULL: a new one in
 * anonymous memory. workers: packet threads, 1 .. FP_MAX_WORKERS. Holds the file's lock until fp_region_close, or until the process ends.
 * 0, or a negative errno with rep->message: -EBUSY another engine has it, -ENOSPC, -ENOMEM it does not fit, -EINVAL capacities. */
FP_INLINE int
fp_region_open (fp_region_t *r, const char *path, const fp_capacity_t *capacity, u32 workers, fp_region_report_t *rep)
{
  u64 start = fp_now_ns ();
  fp_layout_t l;
  struct stat st;
  int rc = 0;
  memset (r, 0, sizeof (*r));
  memset (rep, 0, sizeof (*rep));
  r->fd = -1;
  rep->reason = "";
  const char *bad = workers && workers <= FP_MAX_WORKERS ? fp_capacity_bad (capacity) : "workers";
  if (bad)
    {
      snprintf (rep->message, sizeof (rep->message), "capacity %s is out of range", bad);
      return -EINVAL;
    }
  fp_boot_id (rep->boot_id);
  rep->layout = fp_layout_hash ();
  r->capacity = *capacity;
  if (path)
    rc = fp_region_lock (r, path, rep);
  /* on hugetlbfs the block size is that of its pages */
  u64 page = !rc && path && !fstat (r->fd, &st) && st.st_blksize > (long) FP_PAGE ? (u64) st.st_blksize : FP_PAGE;
  fp_layout (&l, capacity, page);
  r->size = rep->bytes = l.size;
  if (!rc && path)
    rc = fp_region_try (r, path, rep->boot_id, rep);
  else if (!path)
    rep->reason = "anonymous memory";
  if (!rc)
    rep->attached = r->base != NULL;
  if (!rc && !r->base)
    rc = fp_region_create (r, path, rep->boot_id, rep);
  if (!rc && (rc = fp_region_handle (r, &l, workers)))
    fp_region_fail (rep, -rc, path, "not enough memory beside the tables");
  if (!rc)
    {
      fp_header_t *h = (fp_header_t *) r->base;
      rep->was_clean = (u8) atomic_exchange (&h->clean, 0);
      fp_worker_set_time (&r->control->worker, start);
      rc = rep->attached ? fp_attach (r, &rep->repair) : fp_attach_derive (r);
      if (rc)
	fp_region_fail (rep, -rc, path, "not enough memory to check the tables");
    }
  if (rc)
    {
      fp_region_release (r);
      return rc;
    }
  if (rep->attached)
    rep->reason = "";
  rep->creation_id = r->creation_id;
  rep->sessions = rep->repair.sessions4 + rep->repair.sessions6;
  rep->ns = fp_now_ns () - start;
  return 0;
}

/* No thread uses the region any more. clean: closed in order (for people; attaching checks everything in any case). */
FP_INLINE void
fp_region_close (fp_region_t *r, int clean)
{
  if (r->base && clean)
    atomic_store (&((fp_header_t *) r->base)->clean, 1);
  fp_region_release (r);
}

#endif /* FP_REGION_H */
