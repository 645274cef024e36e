/* A libfuse that only tells what it was given, or with -DCALLER a library that is linked with it and makes a session. */
#include <errno.h>
#include <stddef.h>

#define FUSE_USE_VERSION 31
#include <fuse_lowlevel.h>

#undef fuse_session_new
struct libfuse_version;

struct given {
    const void *ops;
    size_t size;
    const void *version, *userdata;
    const void *fallocate, *lseek, *create;
};

#ifdef CALLER

struct fuse_session *fuse_session_new(struct fuse_args *, const struct fuse_lowlevel_ops *, size_t, void *);
struct fuse_session *fuse_session_new_versioned(struct fuse_args *, const struct fuse_lowlevel_ops *, size_t,
                                                struct libfuse_version *, void *);

static struct fuse_lowlevel_ops ops;

const void *table(void *create, void *fallocate) {
    ops.create = create;
    ops.fallocate = fallocate;
    return &ops;
}

struct given *make(int versioned, size_t size, void *userdata) {
    void *made = versioned ? fuse_session_new_versioned(NULL, &ops, size, (void *)&errno, userdata)
                           : fuse_session_new(NULL, &ops, size, userdata);
    return made;
}

size_t before_lseek(void) { return offsetof(struct fuse_lowlevel_ops, fallocate); }
size_t whole(void) { return sizeof ops; }

#else

static struct given given;

struct fuse_session *fuse_session_new_versioned(struct fuse_args *args, const struct fuse_lowlevel_ops *ops, size_t size,
                                                struct libfuse_version *version, void *userdata) {
    int has_rows = size >= offsetof(struct fuse_lowlevel_ops, lseek) + sizeof ops->lseek;

    given = (struct given){ops, size, version, userdata, has_rows ? ops->fallocate : NULL, has_rows ? ops->lseek : NULL,
                           ops->create};
    return (struct fuse_session *)&given;
}

struct fuse_session *fuse_session_new(struct fuse_args *args, const struct fuse_lowlevel_ops *ops, size_t size,
                                      void *userdata) {
    return fuse_session_new_versioned(args, ops, size, NULL, userdata);
}

int answered;

int fuse_reply_err(fuse_req_t req, int err) {
    answered = err;
    return -err;
}

#ifndef NO_LSEEK
int fuse_reply_lseek(fuse_req_t req, off_t off) { return -(int)off; }
#endif

#endif
