/* caged: the command line. */
#include "cli/verb.h"

int main(int argc, char **argv)
{
    return cg_cli_main(argc, argv);
}
