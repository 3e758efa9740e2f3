/* SPDX-License-Identifier: Apache-2.0 */
/* Index of a table: 64-byte buckets of 64-bit words, lock-free, entries never move.
 *
 * A word is {state 2 | tag 16 | reference 30 | generation 16}; the reference is slot << 1 | direction. A key has two candidate buckets,
 * then the chain of overflow buckets that hangs on the first one. One CAS publishes an entry, one erases it. A plain lookup reads
 * live words only, compares the key in the record, and so never misses a key that is live during the whole lookup, whatever is
 * inserted meanwhile: words are never moved, and where several threads insert, overflow buckets are never unlinked while threads run. Where
 * only one does (the control plane's tables), it takes empty ones out (fp_index_unchain): they keep their link until nobody stands on them.
 *
 * Unique insertion (fp_index_insert). The record is complete. The inserter
 *   1. scans all positions of the key: a live entry of the same key there -> EXISTS; an entry of the key whose record is dead -> erase it for its owner;
 *   2. CASes a TENTATIVE word into an empty position p (seq_cst);
 *   3. scans all positions again (seq_cst loads), itself left out:
 *        same key, live             -> takes its own word out, EXISTS;
 *        same key, tentative, < p   -> takes its own word out and begins again;
 *        same key, tentative, > p   -> CASes it to empty: done, or it has become live (-> EXISTS) or gone;
 *   4. commits by CAS from TENTATIVE to LIVE; if that fails, someone took the word out: begin again.
 *
 * At most one word of a key whose record is not dead ever gets committed: let A and B both commit, A's placing CAS before B's in the
 * seq_cst order. B's scan comes after both, so it reads A's word, tentative or live (A commits this very placing, so nobody took it
 * out before). Live -> B gives up. Tentative at a lower position -> B takes itself out. Tentative at a higher position -> B's CAS
 * takes A out, so A's commit fails, or fails because A is live by now, and B gives up. Each contradicts that both commit. If A was
 * committed and erased before B looked, the two were never live together. Nothing here depends on the order of positions: that only
 * serves progress. The inserter at the lowest position never yields to a tentative one, so somebody always gets on; and after
 * FP_INDEX_YIELDS rounds an inserter takes out lower ones as well, so a thread that was suspended between 2 and 4 holds up nobody.
 *
 * A new overflow bucket is linked (seq_cst) before a word is placed in it, so who places later also sees the link.
 *
 * ABA. A word names slot, direction and generation. The generation changes each time a slot is given back, and a slot whose word was ever
 * visible is given back only after every thread has passed a quiescent point (fp_retire.h). So within one operation a word read
 * earlier and found again by CAS belongs to the same incarnation of the same record, and comparing a key reads a complete record
 * that nobody is filling, tentative words included. The one word that can come back within an operation is a tentative one that its
 * owner, after yielding, placed again in the same position; a rival that then takes it out does what it was entitled to do: the
 * owner's commit fails and it begins again. A committed word differs from its tentative form, so no such CAS can hit it. Erasing
 * compares the whole word, hence never hits a later entry.
 *
 * Scanning. fp_bucket_scan reads the upper halves of a bucket's words at once and says where a tag may be and which words seem empty.
 * It is a hint: who acts on it loads the word again, atomically, or lets the CAS decide. It never misses a word that was placed before
 * the scan and is not erased during it: an aligned half has either its old or its new value, and tentative and live forms of a word
 * have the same tag. On x86-64 a load that follows a locked instruction is not done before it, vector loads included, so scanning
 * after the placing CAS sees what the seq_cst order put before that CAS, as step 3 needs; everywhere else, and under
 * ThreadSanitizer, the scan consists of seq_cst loads.
 *
 * `match` says whether a word's record has the key: FP_MATCH_NO, FP_MATCH_YES, or FP_MATCH_DEAD: it has, but is being removed. A dead record stays dead. */
#ifndef FP_INDEX_H
#define FP_INDEX_H

#include "fp_hash.h"
#include "fp_pool.h"

#if defined(__SANITIZE_THREAD__)
#define FP_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FP_THREAD_SANITIZER 1
#endif
#endif
#if defined(__SSE2__) && !defined(FP_THREAD_SANITIZER)
#define FP_BUCKET_SIMD 1
#include <immintrin.h>
#endif

#define FP_BUCKET_WORDS	    7
#define FP_INDEX_YIELDS	    4
#define FP_INDEX_TRIES	    64
#define FP_WORD_TENTATIVE   (1ull << 62)
#define FP_WORD_LIVE	    (1ull << 63)
#define FP_WORD_KEY_SHIFT   46 /* state and tag lie above */
#define FP_BUCKET_PREFERRED 5	/* the first bucket takes this many before the emptier one is chosen: most hits cost one line */

typedef struct
{
  _Atomic u64 word[FP_BUCKET_WORDS];
  _Atomic u64 link; /* overflow bucket + 1, or 0 */
} FP_ALIGNED fp_bucket_t;

_Static_assert (sizeof (fp_bucket_t) == 64, "bucket");

typedef struct
{
  fp_bucket_t *buckets;
  u32 mask; /* buckets - 1 */
  u32 overflow_size;
  fp_bucket_t *overflow;
  fp_pool_t *overflow_pool;
} fp_index_t;

enum fp_match
{
  FP_MATCH_NO = 0,
  FP_MATCH_YES = 1,
  FP_MATCH_DEAD = 2,
};

enum fp_index_result
{
  FP_INDEX_OK = 0,
  FP_INDEX_EXISTS = 1,
  FP_INDEX_FULL = 2,
};

/* ctx: the table; live: the word is committed; ref: slot << 1 | direction. */
typedef int fp_match_fn_t (const void *ctx, int live, u32 ref, const void *key);

FP_ALWAYS_INLINE u64
fp_word (u64 hash, u32 ref, u32 gen)
{
  u64 tag = (hash * 0x9e3779b97f4a7c15ull) >> 48; /* independent of the bits that choose buckets */
  return tag << FP_WORD_KEY_SHIFT | (u64) ref << 16 | (gen & 0xffff);
}

FP_ALWAYS_INLINE u32
fp_word_ref (u64 word)
{
  return (u32) (word >> 16) & 0x3fffffff;
}

FP_ALWAYS_INLINE u32
fp_word_slot (u64 word)
{
  return fp_word_ref (word) >> 1;
}

FP_ALWAYS_INLINE u16
fp_word_gen (u64 word)
{
  return (u16) word;
}

FP_ALWAYS_INLINE u32
fp_index_first (const fp_index_t *x, u64 hash)
{
  return (u32) hash & x->mask;
}

FP_ALWAYS_INLINE u32
fp_index_second (const fp_index_t *x, u64 hash)
{
  u32 b = (u32) (hash >> 32) & x->mask;
  return b == fp_index_first (x, hash) ? b ^ 1 : b;
}

FP_ALWAYS_INLINE fp_bucket_t *
fp_index_overflow (const fp_index_t *x, u64 link)
{
  return link && link <= x->overflow_size ? &x->overflow[link - 1] : NULL;
}

/* k-th candidate bucket of a hash, 0 and 1, then the chain; NULL at its end. `prev` is the one before. */
FP_ALWAYS_INLINE fp_bucket_t *
fp_index_bucket (const fp_index_t *x, u64 hash, u32 k, fp_bucket_t *prev)
{
  if (k == 0)
    return &x->buckets[fp_index_first (x, hash)];
  if (k == 1)
    return &x->buckets[fp_index_second (x, hash)];
  fp_bucket_t *from = k == 2 ? &x->buckets[fp_index_first (x, hash)] : prev;
  return fp_index_overflow (x, atomic_load_explicit (&from->link, memory_order_seq_cst));
}

FP_ALWAYS_INLINE void
fp_index_prefetch (const fp_index_t *x, u64 hash)
{
  FP_PREFETCH (&x->buckets[fp_index_first (x, hash)]);
  FP_PREFETCH (&x->buckets[fp_index_second (x, hash)]);
}

/* What a scan compares: the upper half of a word without its part of the reference. */
#define FP_SCAN_TAG  ((u32) (0xffffull << (FP_WORD_KEY_SHIFT - 32)))
#define FP_SCAN_LIVE (FP_SCAN_TAG | (u32) (FP_WORD_LIVE >> 32) | (u32) (FP_WORD_TENTATIVE >> 32))

/* Bit i for each word[i] whose upper half under `mask` is `value`; *empty, if wanted: bit i for each word that is 0. */
FP_ALWAYS_INLINE u32
fp_bucket_scan (const fp_bucket_t *b, u32 mask, u32 value, u32 *empty)
{
  const u32 words = (1u << FP_BUCKET_WORDS) - 1;
#if defined(FP_BUCKET_SIMD) && defined(__AVX2__)
  const __m256i *v = (const __m256i *) (const void *) b;
  __m256 x = _mm256_shuffle_ps (_mm256_castsi256_ps (_mm256_load_si256 (v)), _mm256_castsi256_ps (_mm256_load_si256 (v + 1)),
				_MM_SHUFFLE (3, 1, 3, 1));
  __m256i h = _mm256_permute4x64_epi64 (_mm256_castps_si256 (x), _MM_SHUFFLE (3, 1, 2, 0));
  __m256i m = _mm256_cmpeq_epi32 (_mm256_and_si256 (h, _mm256_set1_epi32 ((int) mask)), _mm256_set1_epi32 ((int) value));
  if (empty)
    *empty = (u32) _mm256_movemask_ps (_mm256_castsi256_ps (_mm256_cmpeq_epi32 (h, _mm256_setzero_si256 ()))) & words;
  return (u32) _mm256_movemask_ps (_mm256_castsi256_ps (m)) & words;
#elif defined(FP_BUCKET_SIMD)
  const __m128 *v = (const __m128 *) (const void *) b;
  __m128i low = _mm_castps_si128 (_mm_shuffle_ps (v[0], v[1], _MM_SHUFFLE (3, 1, 3, 1)));
  __m128i high = _mm_castps_si128 (_mm_shuffle_ps (v[2], v[3], _MM_SHUFFLE (3, 1, 3, 1)));
  __m128i k = _mm_set1_epi32 ((int) mask), t = _mm_set1_epi32 ((int) value), zero = _mm_setzero_si128 ();
  u32 found = (u32) _mm_movemask_ps (_mm_castsi128_ps (_mm_cmpeq_epi32 (_mm_and_si128 (low, k), t))) |
	      (u32) _mm_movemask_ps (_mm_castsi128_ps (_mm_cmpeq_epi32 (_mm_and_si128 (high, k), t))) << 4;
  if (empty)
    *empty = ((u32) _mm_movemask_ps (_mm_castsi128_ps (_mm_cmpeq_epi32 (low, zero))) |
	      (u32) _mm_movemask_ps (_mm_castsi128_ps (_mm_cmpeq_epi32 (high, zero))) << 4) & words;
  return found & words;
#else
  u32 found = 0, none = 0;
  for (u32 i = 0; i < FP_BUCKET_WORDS; i++)
    {
      u64 w = atomic_load_explicit (&b->word[i], memory_order_seq_cst);
      found |= (u32) (((u32) (w >> 32) & mask) == value) << i;
      none |= (u32) (w == 0) << i;
    }
  if (empty)
    *empty = none;
  return found & words;
#endif
}

/* Upper half of the live words of a hash, for fp_bucket_scan with FP_SCAN_LIVE. */
FP_ALWAYS_INLINE u32
fp_scan_live (u64 hash)
{
  return (u32) ((fp_word (hash, 0, 0) | FP_WORD_LIVE) >> 32);
}

/* A live word that may be the hash's, its key not compared, or 0. */
FP_ALWAYS_INLINE u64
fp_bucket_candidate (const fp_bucket_t *b, u32 live)
{
  u32 found = fp_bucket_scan (b, FP_SCAN_LIVE, live, NULL);
  if (!found)
    return 0;
  u64 w = atomic_load_explicit (&b->word[__builtin_ctz (found)], memory_order_acquire);
  return FP_LIKELY (((u32) (w >> 32) & FP_SCAN_LIVE) == live) ? w : 0;
}

FP_ALWAYS_INLINE u64
fp_bucket_find (const fp_bucket_t *b, u64 top, fp_match_fn_t *match, const void *ctx, const void *key)
{
  u32 found = fp_bucket_scan (b, FP_SCAN_LIVE, (u32) (top << (FP_WORD_KEY_SHIFT - 32)), NULL);
  for (; found; found &= found - 1)
    {
      u64 w = atomic_load_explicit (&b->word[__builtin_ctz (found)], memory_order_acquire);
      if ((w >> FP_WORD_KEY_SHIFT) == top && match (ctx, 1, fp_word_ref (w), key) == FP_MATCH_YES)
	return w;
    }
  return 0;
}

/* Live word of a key, or 0. */
FP_ALWAYS_INLINE u64
fp_index_find (const fp_index_t *x, u64 hash, fp_match_fn_t *match, const void *ctx, const void *key)
{
  u64 top = (fp_word (hash, 0, 0) | FP_WORD_LIVE) >> FP_WORD_KEY_SHIFT;
  const fp_bucket_t *first = &x->buckets[fp_index_first (x, hash)];
  u64 w = fp_bucket_find (first, top, match, ctx, key);
  if (w)
    return w;
  w = fp_bucket_find (&x->buckets[fp_index_second (x, hash)], top, match, ctx, key);
  if (w)
    return w;
  u64 link = atomic_load_explicit (&first->link, memory_order_acquire);
  while (FP_UNLIKELY (link != 0))
    {
      const fp_bucket_t *b = fp_index_overflow (x, link);
      if (!b)
	break;
      w = fp_bucket_find (b, top, match, ctx, key);
      if (w)
	return w;
      link = atomic_load_explicit (&b->link, memory_order_acquire);
    }
  return 0;
}

FP_ALWAYS_INLINE int
fp_index_cas (_Atomic u64 *p, u64 from, u64 to)
{
  int done = atomic_compare_exchange_strong_explicit (p, &from, to, memory_order_seq_cst, memory_order_seq_cst);
  FP_STEP ();
  return done;
}

/* Hang an empty bucket on the chain of the hash; 0 when none is left. Free buckets lie in the pool one by one: whoever took several would
 * let the others find none for a moment. */
FP_INLINE int
fp_index_extend (const fp_index_t *x, u64 hash)
{
  fp_chain_t chain = { FP_NONE, 0 };
  if (!fp_pool_get (x->overflow_pool, &chain, 1))
    return 0;
  u32 fresh = fp_chain_pop (x->overflow_pool, &chain);
  fp_bucket_t *b = &x->buckets[fp_index_first (x, hash)];
  for (;;)
    {
      u64 link = atomic_load_explicit (&b->link, memory_order_seq_cst);
      if (!link && fp_index_cas (&b->link, 0, (u64) fresh + 1))
	return 1;
      b = fp_index_overflow (x, atomic_load_explicit (&b->link, memory_order_seq_cst));
      if (!b)
	return 0; /* damaged link; attaching will repair it */
    }
}

/* Step 1 and the choice of a position: EXISTS with *winner, or OK with *empty (NULL: all are taken). */
FP_INLINE int
fp_index_prepare (const fp_index_t *x, u64 hash, u64 top, fp_match_fn_t *match, const void *ctx, const void *key, u64 *winner,
		  _Atomic u64 **empty, u32 *position)
{
  fp_bucket_t *b = NULL;
  _Atomic u64 *candidate[3] = { NULL, NULL, NULL };
  u32 at[3] = { 0, 0, 0 }, used[2] = { 0, 0 };
  for (u32 k = 0; (b = fp_index_bucket (x, hash, k, b)); k++)
    {
      u32 c = k < 2 ? k : 2, none;
      u32 found = fp_bucket_scan (b, FP_SCAN_LIVE, (u32) (top << (FP_WORD_KEY_SHIFT - 32)), &none);
      if (none && !candidate[c])
	candidate[c] = &b->word[__builtin_ctz (none)], at[c] = k * FP_BUCKET_WORDS + (u32) __builtin_ctz (none);
      if (k < 2)
	used[k] = FP_BUCKET_WORDS - (u32) __builtin_popcount (none);
      for (; FP_UNLIKELY (found); found &= found - 1)
	{
	  _Atomic u64 *p = &b->word[__builtin_ctz (found)];
	  u64 w = atomic_load_explicit (p, memory_order_acquire);
	  if ((w >> FP_WORD_KEY_SHIFT) != top)
	    continue;
	  int m = match (ctx, 1, fp_word_ref (w), key);
	  if (m == FP_MATCH_YES)
	    {
	      *winner = w;
	      return FP_INDEX_EXISTS;
	    }
	  if (m == FP_MATCH_DEAD)
	    fp_index_cas (p, w, 0);
	}
    }
  u32 c = used[0] < FP_BUCKET_PREFERRED || used[0] <= used[1] ? 0 : 1;
  if (!candidate[c])
    c = candidate[0] ? 0 : candidate[1] ? 1 : 2;
  *empty = candidate[c];
  *position = at[c];
  return FP_INDEX_OK;
}

/* Step 3: OK (commit), EXISTS, or -1: begin again. The own word is in place; it is left to the caller to take it out. */
FP_INLINE int
fp_index_contest (const fp_index_t *x, u64 hash, u64 top, u32 own, int yield, fp_match_fn_t *match, const void *ctx,
		  const void *key, u64 *winner)
{
  fp_bucket_t *b = NULL;
  u64 tentative = top & ~(FP_WORD_LIVE >> FP_WORD_KEY_SHIFT);
  tentative |= FP_WORD_TENTATIVE >> FP_WORD_KEY_SHIFT;
  for (u32 k = 0; (b = fp_index_bucket (x, hash, k, b)); k++)
    {
      u32 found = fp_bucket_scan (b, FP_SCAN_TAG, (u32) (top << (FP_WORD_KEY_SHIFT - 32)) & FP_SCAN_TAG, NULL);
      if (own - k * FP_BUCKET_WORDS < FP_BUCKET_WORDS)
	found &= ~(1u << (own - k * FP_BUCKET_WORDS));
      for (; FP_UNLIKELY (found); found &= found - 1)
	{
	  u32 i = (u32) __builtin_ctz (found), position = k * FP_BUCKET_WORDS + i;
	  u64 w = atomic_load_explicit (&b->word[i], memory_order_seq_cst);
	  if ((w >> FP_WORD_KEY_SHIFT) == tentative)
	    {
	      int m = match (ctx, 0, fp_word_ref (w), key);
	      if (m == FP_MATCH_NO)
		continue;
	      if (m == FP_MATCH_YES && position < own && yield)
		return -1;
	      if (fp_index_cas (&b->word[i], w, 0))
		continue;
	      w = atomic_load_explicit (&b->word[i], memory_order_seq_cst);
	    }
	  if ((w >> FP_WORD_KEY_SHIFT) == top)
	    {
	      int m = match (ctx, 1, fp_word_ref (w), key);
	      if (m == FP_MATCH_YES)
		{
		  *winner = w;
		  return FP_INDEX_EXISTS;
		}
	      if (m == FP_MATCH_DEAD)
		fp_index_cas (&b->word[i], w, 0);
	    }
	}
    }
  return FP_INDEX_OK;
}

__attribute__ ((noinline, unused)) static int
fp_index_insert_any (const fp_index_t *x, u64 hash, u32 ref, u32 gen, fp_match_fn_t *match, const void *ctx, const void *key,
		 u64 *winner, int *visible)
{
  u64 word = fp_word (hash, ref, gen);
  u64 top = (word | FP_WORD_LIVE) >> FP_WORD_KEY_SHIFT;
  for (u32 try = 0; try < FP_INDEX_TRIES; try++)
    {
      _Atomic u64 *p;
      u32 position;
      if (fp_index_prepare (x, hash, top, match, ctx, key, winner, &p, &position) == FP_INDEX_EXISTS)
	return FP_INDEX_EXISTS;
      if (!p)
	{
	  if (!fp_index_extend (x, hash))
	    return FP_INDEX_FULL;
	  continue;
	}
      *visible = 1;
      if (!fp_index_cas (p, 0, word | FP_WORD_TENTATIVE))
	continue;
      int rc = fp_index_contest (x, hash, top, position, try < FP_INDEX_YIELDS, match, ctx, key, winner);
      if (rc == FP_INDEX_OK && fp_index_cas (p, word | FP_WORD_TENTATIVE, word | FP_WORD_LIVE))
	return FP_INDEX_OK;
      if (rc != FP_INDEX_OK)
	fp_index_cas (p, word | FP_WORD_TENTATIVE, 0);
      if (rc == FP_INDEX_EXISTS)
	return FP_INDEX_EXISTS;
    }
  return FP_INDEX_FULL;
}

/* Enter ref for a key that must be unique. *visible is set once other threads may have seen the word: then the record must not be
 * changed and its slot not reused before a quiescent point, whatever the result. FULL also after FP_INDEX_TRIES lost races.
 * The steps above for the usual case, no chain, room in the first bucket, nobody else with the tag; whatever is otherwise, the word is taken out
 * and all begins again with fp_index_insert_any.
 * alone: no other thread inserts into this index, though others may look up and erase. Then an empty word stays empty until it is filled here, and
 * what the scan has not found is not there: one store does it. */
FP_ALWAYS_INLINE int
fp_index_enter (const fp_index_t *x, int alone, u64 hash, u32 ref, u32 gen, fp_match_fn_t *match, const void *ctx, const void *key,
		u64 *winner, int *visible)
{
  u64 word = fp_word (hash, ref, gen);
  u32 live = (u32) ((word | FP_WORD_LIVE) >> 32) & FP_SCAN_LIVE, none;
  fp_bucket_t *first = &x->buckets[fp_index_first (x, hash)], *second = &x->buckets[fp_index_second (x, hash)];
  u32 found = fp_bucket_scan (first, FP_SCAN_LIVE, live, &none) | fp_bucket_scan (second, FP_SCAN_LIVE, live, NULL);
  u32 spare = none & (none - 1); /* fewer than FP_BUCKET_PREFERRED are taken: more than two are not */
  if (FP_LIKELY (!found && none && (spare & (spare - 1)) && !atomic_load_explicit (&first->link, memory_order_acquire)))
    {
      u32 i = (u32) __builtin_ctz (none);
      _Atomic u64 *p = &first->word[i];
      *visible = 1;
      if (alone)
	{
	  atomic_store_explicit (p, word | FP_WORD_LIVE, memory_order_release);
	  FP_STEP ();
	  return FP_INDEX_OK;
	}
      if (FP_LIKELY (fp_index_cas (p, 0, word | FP_WORD_TENTATIVE)))
	{
	  found = (fp_bucket_scan (first, FP_SCAN_TAG, live & FP_SCAN_TAG, NULL) & ~(1u << i)) |
		  fp_bucket_scan (second, FP_SCAN_TAG, live & FP_SCAN_TAG, NULL);
	  if (FP_LIKELY (!found && !atomic_load_explicit (&first->link, memory_order_seq_cst)) &&
	      FP_LIKELY (fp_index_cas (p, word | FP_WORD_TENTATIVE, word | FP_WORD_LIVE)))
	    return FP_INDEX_OK;
	  fp_index_cas (p, word | FP_WORD_TENTATIVE, 0);
	}
    }
  return fp_index_insert_any (x, hash, ref, gen, match, ctx, key, winner, visible);
}

_Static_assert (FP_BUCKET_WORDS - FP_BUCKET_PREFERRED == 2, "fp_index_enter counts empty words");

FP_INLINE int
fp_index_insert (const fp_index_t *x, u64 hash, u32 ref, u32 gen, fp_match_fn_t *match, const void *ctx, const void *key,
		 u64 *winner, int *visible)
{
  return fp_index_enter (x, 0, hash, ref, gen, match, ctx, key, winner, visible);
}

/* Position of a word as it was found, or NULL. */
FP_INLINE _Atomic u64 *
fp_index_locate (const fp_index_t *x, u64 hash, u64 word)
{
  fp_bucket_t *b = NULL;
  for (u32 k = 0; (b = fp_index_bucket (x, hash, k, b)); k++)
    for (u32 found = fp_bucket_scan (b, FP_SCAN_TAG, (u32) (word >> 32) & FP_SCAN_TAG, NULL); found; found &= found - 1)
      {
	_Atomic u64 *p = &b->word[__builtin_ctz (found)];
	if (atomic_load_explicit (p, memory_order_relaxed) == word)
	  return p;
      }
  return NULL;
}

/* Erase a committed entry; a second call, or another thread's, does nothing. */
FP_INLINE void
fp_index_erase (const fp_index_t *x, u64 hash, u32 ref, u32 gen)
{
  u64 word = fp_word (hash, ref, gen) | FP_WORD_LIVE;
  _Atomic u64 *p = fp_index_locate (x, hash, word);
  if (p)
    fp_index_cas (p, word, 0);
}

/* Single writer: takes an empty bucket out of the chain of a hash. Its number, for fp_index_give_back once every thread has passed a quiescent point, or
 * FP_NONE. */
FP_INLINE u32
fp_index_unchain (const fp_index_t *x, u64 hash)
{
  fp_bucket_t *before = &x->buckets[fp_index_first (x, hash)], *b;
  for (; (b = fp_index_overflow (x, atomic_load_explicit (&before->link, memory_order_relaxed))); before = b)
    {
      u32 empty;
      fp_bucket_scan (b, 0, 1, &empty);
      if (empty != (1u << FP_BUCKET_WORDS) - 1)
	continue;
      atomic_store_explicit (&before->link, atomic_load_explicit (&b->link, memory_order_relaxed), memory_order_release);
      FP_STEP ();
      return (u32) (b - x->overflow);
    }
  return FP_NONE;
}

FP_INLINE void
fp_index_give_back (const fp_index_t *x, u32 bucket)
{
  fp_chain_t chain = { FP_NONE, 0 };
  memset (&x->overflow[bucket], 0, sizeof (x->overflow[bucket]));
  FP_STEP ();
  fp_chain_push (x->overflow_pool, &chain, bucket);
  fp_pool_put (x->overflow_pool, &chain);
}

/* Single writer: point the entry at another record of the same key. Readers find the old or the new one, at the same position. */
FP_INLINE int
fp_index_swap (const fp_index_t *x, u64 hash, u64 old, u32 ref, u32 gen)
{
  _Atomic u64 *p = fp_index_locate (x, hash, old);
  return p && fp_index_cas (p, old, fp_word (hash, ref, gen) | FP_WORD_LIVE);
}

/* Positions, for dumps: an entry keeps its position as long as it is there. */
FP_ALWAYS_INLINE u64
fp_index_positions (const fp_index_t *x)
{
  return ((u64) x->mask + 1 + x->overflow_size) * FP_BUCKET_WORDS;
}

FP_ALWAYS_INLINE _Atomic u64 *
fp_index_at (const fp_index_t *x, u64 position)
{
  u64 b = position / FP_BUCKET_WORDS, i = position % FP_BUCKET_WORDS;
  return b <= x->mask ? &x->buckets[b].word[i] : &x->overflow[b - x->mask - 1].word[i];
}

#endif /* FP_INDEX_H */
