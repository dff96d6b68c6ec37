/* The few members of kernel structures that the programs read. Offsets are relocated by the kernel
 * against its own BTF at load time (CO-RE), so only names and types matter here. */
#ifndef CG_BPF_KERNEL_H
#define CG_BPF_KERNEL_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kuid {
    __u32 val;
};

struct cred {
    struct kuid uid, euid;
};

struct hlist_bl_node {
    struct hlist_bl_node **pprev;
};

struct hlist_node {
    struct hlist_node *next;
};

struct hlist_head {
    struct hlist_node *first;
};

struct super_block {
    __u32 s_dev;
    unsigned long s_flags;
    unsigned long s_magic;
    struct dentry *s_root;
};

struct inode {
    __u16 i_mode;
    __u32 i_nlink;
    unsigned long i_ino;
    long long i_size;
    struct super_block *i_sb;
    struct hlist_head i_dentry;
};

struct qstr {
    const unsigned char *name;
};

struct dentry {
    struct hlist_bl_node d_hash;
    struct dentry *d_parent;
    struct qstr d_name;
    struct inode *d_inode;
    struct super_block *d_sb;
    union {
        struct hlist_node d_alias;
    } d_u;
};

struct path {
    struct dentry *dentry;
};

struct file {
    __u32 f_mode;
    struct path f_path;
    struct inode *f_inode;
};

struct fs_struct {
    struct path pwd;
};

struct mm_struct {
    unsigned long arg_start, arg_end;
    struct file *exe_file;
};

struct signal_struct {
    __u32 flags;
    int group_exit_code;
};

struct task_struct {
    int pid, tgid;
    __u32 flags;
    int exit_code;
    __u64 start_time;
    struct mm_struct *mm;
    struct fs_struct *fs;
    struct task_struct *real_parent, *group_leader;
    struct signal_struct *signal;
    const struct cred *cred;
    char comm[16];
};

struct linux_binprm {
    int argc;
};

struct renamedata {
    struct dentry *old_dentry;
    struct dentry *new_dentry;
    unsigned int flags;
};

struct iattr {
    unsigned int ia_valid;
    __u16 ia_mode;
    struct kuid ia_uid;
    struct kuid ia_gid;
};

struct sockaddr {
    __u16 sa_family;
};

struct sock_common {
    __u16 skc_num; /* the local port, host order */
};

struct sock {
    struct sock_common __sk_common;
    __u16 sk_protocol;
};

struct socket {
    struct sock *sk;
};

struct module {
    char name[56];
};

#pragma clang attribute pop

/* Never relocated: the layout is user-space ABI. */
struct cg_in4 {
    __u16 family, port;
    __u8 addr[4];
};

struct cg_in6 {
    __u16 family, port;
    __u32 flow;
    __u8 addr[16];
};

#endif
