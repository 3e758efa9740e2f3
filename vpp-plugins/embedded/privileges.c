/* SPDX-License-Identifier: Apache-2.0 */
#include "privileges.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#endif

static int
set_capabilities (uint32_t mask)
{
  struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
  struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

  data[0].effective = data[0].permitted = mask;
  return syscall (SYS_capset, &header, data) ? -errno : 0;
}

#ifdef NATIVE_ARCH
/* What runs after the start: packet and netlink sockets, the control socket, the clock, threads, memory. Nothing that
 * opens a file for writing by name, starts a program or changes the system. */
static const uint16_t allowed_calls[] = {
  SYS_read,	    SYS_write,	     SYS_close,	       SYS_ppoll,	SYS_recvfrom,	 SYS_recvmsg,	 SYS_sendto,
  SYS_sendmsg,	    SYS_sendmmsg,    SYS_socket,       SYS_bind,	SYS_setsockopt,	 SYS_getsockopt, SYS_accept4,
  SYS_connect,	    SYS_shutdown,    SYS_fcntl,	       SYS_ioctl,	SYS_futex,	 SYS_mmap,	 SYS_munmap,
  SYS_mprotect,	    SYS_madvise,     SYS_mremap,       SYS_brk,		SYS_clock_gettime, SYS_clock_nanosleep,
  SYS_nanosleep,    SYS_exit,	     SYS_exit_group,   SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
  SYS_rt_sigtimedwait, SYS_signalfd4, SYS_getpid,      SYS_gettid,	SYS_tgkill,	 SYS_sched_yield, SYS_sched_getaffinity,
  SYS_sched_setaffinity, SYS_getrandom, SYS_unlinkat,  SYS_fsync,	SYS_msync,	 SYS_ftruncate,	 SYS_fstat,
  SYS_newfstatat,   SYS_openat,	     SYS_eventfd2,     SYS_set_robust_list, SYS_restart_syscall, SYS_clone,
#ifdef SYS_clone3
  SYS_clone3,
#endif
#ifdef SYS_rseq
  SYS_rseq,
#endif
  SYS_prctl,
#ifdef SYS_poll
  SYS_poll,
#endif
#ifdef SYS_unlink
  SYS_unlink,
#endif
#ifdef SYS_membarrier
  SYS_membarrier,
#endif
#ifdef SYS_gettimeofday
  SYS_gettimeofday,
#endif
#ifdef SYS_set_tid_address
  SYS_set_tid_address,
#endif
};

#define N_CALLS (sizeof (allowed_calls) / sizeof (allowed_calls[0]))
_Static_assert (N_CALLS < 250, "a jump in the filter reaches 255 instructions");

/* Other calls fail with EPERM. */
int
emb_privileges_filter_calls (void)
{
  struct sock_filter code[N_CALLS + 6];
  struct sock_fprog program = { .filter = code };
  unsigned short n = 0;

  code[n++] = (struct sock_filter) BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, arch));
  code[n++] = (struct sock_filter) BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0);
  code[n++] = (struct sock_filter) BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  code[n++] = (struct sock_filter) BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr));
  for (size_t i = 0; i < N_CALLS; i++)
    code[n++] = (struct sock_filter) BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, allowed_calls[i], (uint8_t) (N_CALLS - i), 0);
  code[n++] = (struct sock_filter) BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  code[n++] = (struct sock_filter) BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  program.len = n;
  return prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) ? -errno : 0;
}
#else
int
emb_privileges_filter_calls (void)
{
  return 0;
}
#endif

int
emb_privileges_drop (const char **step)
{
  *step = "PR_SET_NO_NEW_PRIVS";
  if (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    return -errno;
  *step = "PR_CAP_AMBIENT_CLEAR_ALL";
  if (prctl (PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    return -errno;
  /* The bounding set needs CAP_SETPCAP; without it the container runtime has emptied it already. */
  for (int capability = 0; capability <= CAP_LAST_CAP; capability++)
    if (capability != CAP_NET_RAW && prctl (PR_CAPBSET_DROP, capability, 0, 0, 0) && errno == EPERM)
      break;
  *step = "capset: CAP_NET_RAW is needed";
  return set_capabilities (1u << CAP_NET_RAW);
}
