/* The plain program: newline-delimited JSON {"type","payload"} on a unix socket. It only answers.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/agent/agent.h"

int legacy_main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "-version") == 0) {
            printf("caged-agent %s\n", CG_VERSION);
            return 0;
        }
    }
    fprintf(stderr, "usage: caged-agent --link-socket PATH [--workspace DIR] | --version\n");
    return 2;
}
