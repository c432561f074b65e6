/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Kernel interfaces newer than the oldest headers that cpx is built with (Linux 6.1). Small
 * additions, sorted by header; every use copes with a kernel that lacks it. */
#ifndef CPX_BASE_KABI_H
#define CPX_BASE_KABI_H

#include <linux/ioctl.h>
#include <stdint.h>

/* ---- linux/prctl.h ---- */
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif
#ifndef PR_TIMER_CREATE_RESTORE_IDS
#define PR_TIMER_CREATE_RESTORE_IDS	77
#define PR_TIMER_CREATE_RESTORE_IDS_OFF 0
#define PR_TIMER_CREATE_RESTORE_IDS_ON	1
#define PR_TIMER_CREATE_RESTORE_IDS_GET 2
#endif
#ifndef PR_THP_DISABLE_EXCEPT_ADVISED
#define PR_THP_DISABLE_EXCEPT_ADVISED (1 << 1)
#endif

/* ---- linux/membarrier.h: 6.3 ---- */
#define KABI_MEMBARRIER_GET_REGISTRATIONS (1 << 9) /* an enumerator in newer headers */

/* ---- linux/ptrace.h ---- */
/* Own names: glibc has some of them as enumerators. */
#define KABI_PTRACE_GET_RSEQ_CONFIGURATION	     0x420f
#define KABI_PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG 0x4210
#define KABI_PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211
#define KABI_SYS_DISPATCH_INCLUSIVE_ON		     2
struct kabi_rseq_configuration {
	uint64_t rseq_abi_pointer;
	uint32_t rseq_abi_size;
	uint32_t signature;
	uint32_t flags;
	uint32_t pad;
};
struct kabi_sud_config {
	uint64_t mode; /* PR_SYS_DISPATCH_OFF is 0 */
	uint64_t selector;
	uint64_t offset;
	uint64_t len;
};

struct kabi_seccomp_metadata {
	uint64_t filter_off; /* index, 0 being the oldest */
	uint64_t flags;	     /* SECCOMP_FILTER_FLAG_* */
};

/* ---- linux/auxvec.h ---- */
#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE 27
#endif

/* ---- linux/fs.h: PAGEMAP_SCAN (6.7) ---- */
#ifndef PAGEMAP_SCAN
struct page_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};
struct pm_scan_arg {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};
#define PAGEMAP_SCAN	   _IOWR('f', 16, struct pm_scan_arg)
#define PM_SCAN_WP_MATCHING (1 << 0)
#define PM_SCAN_CHECK_WPASYNC (1 << 1)
#define PAGE_IS_WPALLOWED  (1 << 0)
#define PAGE_IS_WRITTEN	   (1 << 1)
#define PAGE_IS_FILE	   (1 << 2)
#define PAGE_IS_PRESENT	   (1 << 3)
#define PAGE_IS_SWAPPED	   (1 << 4)
#define PAGE_IS_PFNZERO	   (1 << 5)
#define PAGE_IS_HUGE	   (1 << 6)
#define PAGE_IS_SOFT_DIRTY (1 << 7)
#endif
#ifndef PAGE_IS_GUARD
#define PAGE_IS_GUARD	   (1 << 8) /* 6.15: madvise(MADV_GUARD_INSTALL) */
#endif

/* ---- linux/userfaultfd.h ---- */
#define KABI_UFFD_USER_MODE_ONLY  1	    /* 5.11 */
#define KABI_UFFD_FEATURE_WP_ASYNC (1 << 15) /* 6.7 */

/* ---- linux/timerfd.h: not with glibc's sys/timerfd.h in one file ---- */
#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

/* ---- linux/eventpoll.h: busy polling (6.9) ---- */
#ifndef EPIOCGPARAMS
struct epoll_params {
	uint32_t busy_poll_usecs;
	uint16_t busy_poll_budget;
	uint8_t prefer_busy_poll;
	uint8_t pad;
};
#define EPIOCSPARAMS _IOW(0x8A, 0x01, struct epoll_params)
#define EPIOCGPARAMS _IOR(0x8A, 0x02, struct epoll_params)
#endif

/* ---- linux/pidfd.h (6.15) ---- */
struct kabi_pidfd_info {
	uint64_t mask;
	uint64_t cgroupid;
	uint32_t pid, tgid, ppid;
	uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
	int32_t exit_code; /* wait status form */
};
#define KABI_PIDFD_INFO_EXIT (1 << 3)
#define KABI_PIDFD_GET_INFO  _IOWR(0xFF, 11, struct kabi_pidfd_info)

/* ---- asm-generic/mman-common.h ---- */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

/* ---- asm-generic/socket.h ---- */
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

/* ---- fs/aio.c: struct aio_ring, and struct io_event of linux/aio_abi.h ---- */
enum { AIO_RING_HEAD = 32, AIO_EVENT_SIZE = 32 };

/* ---- linux/io_uring.h ---- */
#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16) /* 6.6 */
#endif
enum {
	KABI_REGISTER_PBUF_STATUS = 26,	 /* 6.8 */
	KABI_REGISTER_NAPI = 27,	 /* 6.9 */
	KABI_REGISTER_RESIZE_RINGS = 33, /* 6.13 */
	KABI_NOP_INJECT_RESULT = 1,	 /* 6.10: in nop_flags */
};

/* ---- linux/un.h ---- */
#ifndef SIOCUNIXFILE
#define SIOCUNIXFILE 0x89e0
#endif

#endif
