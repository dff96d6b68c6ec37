/* config.json of a sandbox: written by the server into the sandbox's directory before it asks the
 * jail for a start, read once by the warden. docs/warden.md has the table. No secrets stand in it.
 *
 * {"v":1, "id":"cage-…", "account":"acct-…", "template":"minimal", "hostname":"…",
 *  "shape":{"vcpus":2,"mem_mib":512,"disk_mib":5120}, "agent":null, "driver":"qemu",
 *  "isolation":{…}, "env":{"NAME":"value"},
 *  "network":{"allow":["127.0.0.1/32:9418"],
 *             "hosts":[{"name":"host.caged.internal","address":"172.30.0.1","to":"127.0.0.1"}]},
 *  "record":{"quota_bytes":0,"segment_bytes":0},
 *  "vm":{"restore":false,"make_golden":false,"without_ram":false,"same":false},
 *  "idle_s":0, "timeouts":{"boot_ms":60000,"connect_ms":10000,"grace_ms":5000}} */
#ifndef CG_WARDEN_CONFIG_H
#define CG_WARDEN_CONFIG_H

#include "base/clock.h"
#include "base/json.h"
#include "egress/policy.h"
#include "warden/llm.h"

enum { CG_WARDEN_CONFIG_MAX = 256 * 1024, CG_WARDEN_NAME = 64 };

struct cg_warden_config {
    char id[CG_ID_TEXT];
    char account[CG_ID_TEXT];
    char template_name[CG_WARDEN_NAME];
    char hostname[CG_WARDEN_NAME];
    char agent[CG_WARDEN_NAME];  /* profile of the user's agent; empty: none */
    char driver[CG_WARDEN_NAME]; /* of vmm/vmm.h; empty: the default */
    uint32_t vcpus;
    uint32_t mem_mib;
    uint32_t disk_mib;
    struct cg_json *root;            /* owned: what env and isolation point into */
    const struct cg_json *env;       /* object of strings, NULL: none */
    const struct cg_json *isolation; /* object, told as it is in status and record; NULL: none */
    struct cg_egress_policy network;
    struct llm_config llm;
    uint64_t quota_bytes;
    uint64_t segment_bytes;
    bool same;        /* it is this sandbox's own, which goes on after a pause */
    bool restore;     /* the guest comes out of vm.state in the sandbox's directory */
    bool make_golden; /* it goes into vm.state as soon as its agent answers, before any setup */
    bool without_ram; /* vm.state has no memory: that lies in the VMM's shared file */
    uint32_t idle_s;  /* without activity it pauses itself; 0: never */
    uint32_t boot_ms;
    uint32_t connect_ms;
    uint32_t grace_ms;
};

/* CG_INVALID names the member and what is allowed; unknown members are refused. */
CG_MUST_USE bool cg_warden_config_parse(struct cg_slice text, struct cg_warden_config *out,
                                        struct cg_err *e);
void cg_warden_config_finish(struct cg_warden_config *c);

#endif
