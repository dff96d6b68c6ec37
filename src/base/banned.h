/* Functions that Caged does not use, as compile errors. Included into every one of our sources by
 * the build (-include), after the system headers that declare them. Instead: cg_strlcpy,
 * cg_snprintf, cg_format, cg_rand_bytes, strtol with checks, posix_spawn, gmtime_r. */
#ifndef CG_BASE_BANNED_H
#define CG_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CG_BANNED(name) cg_sorry_##name##_is_a_banned_function

#undef strcpy
#undef strcat
#undef strncpy
#undef strncat
#undef sprintf
#undef vsprintf
#undef strtok
#undef atoi
#undef atof
#undef alloca
#define strcpy(a, b) CG_BANNED(strcpy)
#define strcat(a, b) CG_BANNED(strcat)
#define strncpy(a, b, c) CG_BANNED(strncpy)
#define strncat(a, b, c) CG_BANNED(strncat)
#define sprintf(...) CG_BANNED(sprintf)
#define vsprintf(...) CG_BANNED(vsprintf)
#define strtok(a, b) CG_BANNED(strtok)
#define atoi(a) CG_BANNED(atoi)
#define atof(a) CG_BANNED(atof)
#define alloca(a) CG_BANNED(alloca)
#define system(a) CG_BANNED(system)
#define popen(a, b) CG_BANNED(popen)
#define rand() CG_BANNED(rand)
#define srand(a) CG_BANNED(srand)
#define tmpnam(a) CG_BANNED(tmpnam)
#define mktemp(a) CG_BANNED(mktemp)
#define gmtime(a) CG_BANNED(gmtime)
#define localtime(a) CG_BANNED(localtime)

#endif
