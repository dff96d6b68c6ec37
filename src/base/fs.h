/* Small, whole-file and descriptor helpers. Every read has a maximum. */
#ifndef CG_BASE_FS_H
#define CG_BASE_FS_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* Reads a small file whole; the NUL-terminated text is the caller's.
 * Errors: CG_NOT_FOUND, CG_TOO_LARGE (over max bytes), CG_FORBIDDEN, CG_IO. */
CG_MUST_USE bool cg_fs_slurp(const char *path, size_t max, char **out, size_t *n, struct cg_err *e);

/* Replaces a file so that a reader sees the old or the new text whole, and the new one survives a
 * crash: temporary file, fsync, rename, fsync of the folder. */
CG_MUST_USE bool cg_fs_replace(const char *path, const void *p, size_t n, mode_t mode,
                               struct cg_err *e);

/* The same as long as the machine runs: nothing is synced. A file that says so already is left
 * alone. */
CG_MUST_USE bool cg_fs_place(const char *path, const void *p, size_t n, mode_t mode,
                             struct cg_err *e);

/* mkdir -p; existing folders are fine and keep their mode. */
CG_MUST_USE bool cg_fs_mkdirs(const char *path, mode_t mode, struct cg_err *e);

/* rm -rf below and with path, never following symlinks or leaving the file system's mount it
 * started on; a missing path is fine. Depth is bounded (256). */
CG_MUST_USE bool cg_fs_remove_tree(const char *path, struct cg_err *e);

bool cg_fs_exists(const char *path);

/* Reads or writes exactly n bytes, retrying EINTR; CG_CLOSED on a short read. Blocking fds. */
CG_MUST_USE bool cg_fd_read_full(int fd, void *p, size_t n, struct cg_err *e);
CG_MUST_USE bool cg_fd_write_full(int fd, const void *p, size_t n, struct cg_err *e);

CG_MUST_USE bool cg_fd_set_nonblock(int fd, bool on, struct cg_err *e);
CG_MUST_USE bool cg_fd_set_cloexec(int fd, bool on, struct cg_err *e);

enum { CG_FD_PASS_MAX = 16 };

/* One message with descriptors over a unix SOCK_SEQPACKET socket. cg_fd_recv gives descriptors
 * with close-on-exec set; *nfds is their number on return; those beyond `max_fds` are closed and
 * the message refused. *n is the message's length; 0 means the peer closed (CG_CLOSED). */
CG_MUST_USE bool cg_fd_send(int sock, const void *p, size_t n, const int *fds, unsigned nfds,
                            struct cg_err *e);
CG_MUST_USE bool cg_fd_recv(int sock, void *p, size_t max, size_t *n, int *fds, unsigned max_fds,
                            unsigned *nfds, struct cg_err *e);

/* A listening unix stream socket at path (an old socket file is replaced), mode as given; -1 with
 * *e set on failure (CG_INVALID when the path is longer than a socket address holds). */
CG_MUST_USE int cg_unix_listen(const char *path, mode_t mode, struct cg_err *e);
CG_MUST_USE int cg_unix_connect(const char *path, struct cg_err *e);

#endif
