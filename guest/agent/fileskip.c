/* What the file watcher leaves out. Dotfiles such as .env are not among them: they matter. */
#include <string.h>

#include "guest/agent/filewatch.h"

static bool among(const char *name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

bool filewatch_ignores_folder(const char *name)
{
    static const char *const names[] = {".bundle",
                                        ".cache",
                                        ".git",
                                        ".gradle",
                                        ".idea",
                                        ".mypy_cache",
                                        ".next",
                                        ".npm",
                                        ".nuxt",
                                        ".pnpm-store",
                                        ".pytest_cache",
                                        ".ruff_cache",
                                        ".terraform",
                                        ".tox",
                                        ".venv",
                                        ".vscode",
                                        ".yarn",
                                        "__pycache__",
                                        "bower_components",
                                        "dist",
                                        "node_modules",
                                        "site-packages",
                                        "target",
                                        "venv",
                                        "vendor"};
    return among(name, names, CG_COUNT(names));
}

bool filewatch_ignores_file(const char *name)
{
    static const char *const names[] = {"4913", ".DS_Store"};
    static const char *const suffixes[] = {"~", ".swp", ".swx", ".swo", ".tmp"};
    for (size_t i = 0; i < CG_COUNT(suffixes); i++) {
        if (cg_has_suffix(name, suffixes[i]))
            return true;
    }
    return among(name, names, CG_COUNT(names));
}
