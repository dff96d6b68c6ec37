/* A record in one file: a tar of its folder (segments, seals, blobs), which any tar unpacks and
 * cg_import unpacks without trusting it. Blocks; any thread. */
#ifndef CG_RECORD_EXPORT_H
#define CG_RECORD_EXPORT_H

#include "base/err.h"

/* Writes the record in the folder to fd (a file or a pipe). `name` is the folder's name in the tar.
 */
CG_MUST_USE bool cg_export(int record_dir, const char *name, int fd, struct cg_err *e);

/* Unpacks an export from fd into an empty folder. CG_INVALID with the place: it is none, or it was
 * cut off. Only names that a record has are made, none twice, nothing outside the folder. */
CG_MUST_USE bool cg_import(int fd, int to_dir, struct cg_err *e);

#endif
