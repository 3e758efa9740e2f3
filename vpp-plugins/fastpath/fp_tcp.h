/* SPDX-License-Identifier: Apache-2.0 */
/* Life of a session: TCP states and time-outs as connection tracking has them (RFC 9293; kube-proxy relies on CLOSE_WAIT
 * staying an hour), UDP with and without an answer.
 *
 * The state is a set of bits that are only ever added, so that two workers, one per direction, cannot lose each other's:
 * what is set does not depend on their order. Sequence numbers are not followed: any acknowledgement after a FIN counts as
 * one of it, and a RST counts whatever its number. A session that ends by such a RST ends only after ten idle seconds. */
#ifndef FP_TCP_H
#define FP_TCP_H

#include "fp_parse.h"
#include "fp_session.h"

enum fp_session_bit
{
  FP_ST_SYN = 1,	 /* began with a SYN; else taken up in the middle */
  FP_ST_REPLY = 2,	 /* an answer was seen (TCP: SYN+ACK) */
  FP_ST_OPEN = 4,	 /* handshake complete */
  FP_ST_FIN_FORWARD = 8, /* client has closed */
  FP_ST_FIN_REVERSE = 16,
  FP_ST_FIN_ACKED = 32, /* the first FIN is acknowledged */
  FP_ST_CLOSED = 64,	/* both are */
  FP_ST_RESET = 128,
};

enum fp_tcp_state
{
  FP_TCP_SYN_SENT,
  FP_TCP_SYN_RECV,
  FP_TCP_ESTABLISHED,
  FP_TCP_FIN_WAIT,
  FP_TCP_CLOSE_WAIT,
  FP_TCP_LAST_ACK,
  FP_TCP_TIME_WAIT,
  FP_TCP_CLOSE,
};

FP_INLINE enum fp_tcp_state
fp_tcp_state (u8 s)
{
  const u8 fins = FP_ST_FIN_FORWARD | FP_ST_FIN_REVERSE;
  if (FP_LIKELY ((s & (fins | FP_ST_RESET | FP_ST_OPEN)) == FP_ST_OPEN))
    return FP_TCP_ESTABLISHED;
  if (s & FP_ST_RESET)
    return FP_TCP_CLOSE;
  if ((s & fins) == fins)
    return s & FP_ST_CLOSED ? FP_TCP_TIME_WAIT : FP_TCP_LAST_ACK;
  if (s & fins)
    return s & FP_ST_FIN_ACKED ? FP_TCP_CLOSE_WAIT : FP_TCP_FIN_WAIT;
  return s & FP_ST_REPLY ? FP_TCP_SYN_RECV : FP_TCP_SYN_SENT;
}

/* A new SYN may have the flow or its port: nobody sends data on it any more. */
FP_INLINE int
fp_tcp_is_over (u8 s)
{
  enum fp_tcp_state t = fp_tcp_state (s);
  return t == FP_TCP_TIME_WAIT || t == FP_TCP_CLOSE;
}

/* Idle time after which a session ends, in ticks. */
FP_INLINE u32
fp_session_timeout (u8 proto, u8 s)
{
  if (proto != FP_PROTO_TCP)
    return s & FP_ST_REPLY ? FP_TICKS (120) : FP_TICKS (30);
  switch (fp_tcp_state (s))
    {
    case FP_TCP_ESTABLISHED:
      return FP_TICKS (24 * 3600);
    case FP_TCP_SYN_RECV:
      return FP_TICKS (60);
    case FP_TCP_CLOSE_WAIT:
      return FP_TICKS (3600);
    case FP_TCP_LAST_ACK:
      return FP_TICKS (30);
    case FP_TCP_CLOSE:
      return FP_TICKS (10);
    case FP_TCP_SYN_SENT:
    case FP_TCP_FIN_WAIT:
    case FP_TCP_TIME_WAIT:
      break;
    }
  return FP_TICKS (120);
}

/* Bits after one more segment. */
FP_INLINE u8
fp_tcp_next (u8 s, int reverse, u8 flags)
{
  const u8 fins = FP_ST_FIN_FORWARD | FP_ST_FIN_REVERSE;
  const u8 own = reverse ? FP_ST_FIN_REVERSE : FP_ST_FIN_FORWARD;

  if (FP_LIKELY ((s & ~(FP_ST_SYN | FP_ST_REPLY)) == FP_ST_OPEN && !(flags & (FP_TCP_FIN | FP_TCP_SYN | FP_TCP_RST))))
    return s;
  if (flags & FP_TCP_RST)
    return s | FP_ST_RESET;
  if (!(flags & FP_TCP_ACK))
    return s;
  if (flags & FP_TCP_SYN)
    return reverse ? s | FP_ST_REPLY : s;

  if (reverse && !(s & FP_ST_SYN))
    s |= FP_ST_REPLY | FP_ST_OPEN;
  else if (!reverse && (s & FP_ST_REPLY))
    s |= FP_ST_OPEN;
  if ((s & fins) == fins)
    s |= FP_ST_CLOSED;
  else if (s & fins & ~own)
    s |= FP_ST_FIN_ACKED;
  if (flags & FP_TCP_FIN)
    s |= own;
  return s;
}

/* Bits of a session that its first packet begins. */
FP_INLINE u8
fp_session_first (u8 proto, u8 flags)
{
  return proto == FP_PROTO_TCP && (flags & FP_TCP_SYN) ? FP_ST_SYN : 0;
}

/* A packet of a session that was found. Nothing is stored unless bits are new or an eighth of the time-out has passed. Returns 0 if the
 * session is being removed or, forward, has expired: the packet is a miss then. A late answer is still translated. */
FP_ALWAYS_INLINE int
fp_session_touch (_Atomic u64 *life, u32 tick, u8 proto, int reverse, u8 flags)
{
  for (;;)
    {
      u64 seen = atomic_load_explicit (life, memory_order_relaxed);
      u8 s = fp_life_state (seen);
      u8 n = proto == FP_PROTO_TCP ? fp_tcp_next (s, reverse, flags) : reverse ? s | FP_ST_REPLY : s;
      u32 timeout = fp_session_timeout (proto, n), left = fp_life_expiry (seen) - tick;
      int done;
      if (FP_LIKELY (n == s && left - (timeout - timeout / 8) <= timeout / 8))
	return 1;
      if ((i32) left <= 0 && !reverse)
	return 0;
      done = fp_life_touch (life, seen, n, tick + timeout);
      if (done >= 0)
	return done;
    }
}

#endif /* FP_TCP_H */
