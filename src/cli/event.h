/* One event of the record as one readable line. */
#ifndef CG_CLI_EVENT_H
#define CG_CLI_EVENT_H

#include <stdio.h>

#include "base/buf.h"

void event_print(FILE *f, struct cg_slice data);

#endif
