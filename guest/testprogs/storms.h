/* Things to do inside of a guest that must be observed; each runs in a process of its own. */
#ifndef CG_TESTPROGS_STORMS_H
#define CG_TESTPROGS_STORMS_H

struct storm {
    const char *name;
    void (*run)(unsigned long count); /* ends the process with a message when something fails */
    unsigned long count;              /* default */
};

/* Ends with one whose name is NULL. */
extern const struct storm storms[];

#endif
