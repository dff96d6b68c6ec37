/* Words every file of Caged uses: cleanup attributes, visible moves, small macros.
 * Depends on the compiler and libc only, so that the guest agent can use it too. */
#ifndef CG_BASE_DEFS_H
#define CG_BASE_DEFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CG_MUST_USE __attribute__((warn_unused_result))
#define CG_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define CG_UNUSED __attribute__((unused))
#define CG_NORETURN __attribute__((noreturn))

/* Declares a variable that is dropped at the end of its scope: CG_OWN(cg_drop_fd) int fd = ...; */
#define CG_OWN(drop) __attribute__((cleanup(drop)))

/* Hands a pointer on: its value, while the variable itself becomes NULL. */
#define CG_MOVE(p)                                                                                 \
    __extension__({                                                                                \
        __typeof__(p) cg_moved_ = (p);                                                             \
        (p) = NULL;                                                                                \
        cg_moved_;                                                                                 \
    })

/* Hands a file descriptor on: its value, while the variable itself becomes -1. */
#define CG_MOVE_FD(fd)                                                                             \
    __extension__({                                                                                \
        int cg_moved_ = (fd);                                                                      \
        (fd) = -1;                                                                                 \
        cg_moved_;                                                                                 \
    })

#define CG_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define CG_MIN(a, b) ((a) < (b) ? (a) : (b))
#define CG_MAX(a, b) ((a) > (b) ? (a) : (b))

/* The object that contains `member` at `ptr`. */
#define CG_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Droppers for CG_OWN. All accept the empty value (NULL, -1). None changes errno. */
void cg_drop_fd(int *fd);
void cg_drop_free(void *pp); /* any `T *`: frees *(void **)pp */
void cg_drop_file(void *pp); /* FILE * */
void cg_drop_dir(void *pp);  /* DIR * */

/* Ends the process with a message naming the broken invariant; active in release builds too. */
#define CG_ASSERT(cond) ((cond) ? (void)0 : cg_panic(__FILE__, __LINE__, #cond))
CG_NORETURN void cg_panic(const char *file, int line, const char *what);

/* Allocators that end the process when memory is gone: Caged has no useful answer to it, while
 * every size that a client, guest or file can choose is bounded before it gets here. */
CG_MUST_USE void *cg_alloc(size_t size); /* zeroed */
CG_MUST_USE void *cg_alloc_array(size_t count, size_t size);
CG_MUST_USE void *cg_realloc(void *p, size_t size);
CG_MUST_USE char *cg_strdup(const char *s);
CG_MUST_USE char *cg_strndup(const char *s, size_t n);
CG_MUST_USE char *cg_format(const char *fmt, ...) CG_PRINTF(1, 2); /* malloc'd; the caller's */

/* snprintf into a fixed array that must fit: panics on truncation, so use it for bounded input. */
void cg_snprintf(char *out, size_t size, const char *fmt, ...) CG_PRINTF(3, 4);

/* Copies at most size - 1 bytes of s and always terminates; true when nothing was cut. */
bool cg_strlcpy(char *out, size_t size, const char *s);

bool cg_streq(const char *a, const char *b); /* NULL equals only NULL */
bool cg_has_prefix(const char *s, const char *prefix);
bool cg_has_suffix(const char *s, const char *suffix);

#endif
