/* Runs a small helper program and reads what it prints. Blocking, bounded in time and size. */
#ifndef CG_BASE_COMMAND_H
#define CG_BASE_COMMAND_H

#include "base/err.h"

/* argv[0] is an absolute path; env adds one "NAME=value" or is NULL. out gets at most size - 1
 * bytes of its standard output, NUL-terminated; more is CG_TOO_LARGE. After timeout_ms it is killed
 * (CG_TIMEOUT). CG_IO with its exit status when that is not 0. */
CG_MUST_USE bool cg_command_output(const char *const *argv, const char *env, int timeout_ms,
                                   char *out, size_t size, struct cg_err *e);

#endif
