/* Stands before libfuse where pyfuse3 looks for fuse_session_new, and adds two rows to the table that it passes.
 *
 * Whoever else comes by, or comes unarmed, gets what it would have got without this. Needs of libfuse3 the headers
 * alone: each caller is sent on to the libfuse it is linked with itself, of which there may be several here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUSE_USE_VERSION 31
#include <fuse_lowlevel.h>

#include "rows.h"

#undef fuse_session_new /* a macro since libfuse 3.17, for fuse_session_new_versioned */
struct libfuse_version; /* of which the headers before know nothing */

#define OFFERED __attribute__((visibility("default")))
#define ROWS_END (offsetof(struct fuse_lowlevel_ops, lseek) + sizeof(void (*)(void)))

typedef struct fuse_session *(*new_fn)(struct fuse_args *, const struct fuse_lowlevel_ops *, size_t, void *);
typedef struct fuse_session *(*new_versioned_fn)(struct fuse_args *, const struct fuse_lowlevel_ops *, size_t,
                                                 struct libfuse_version *, void *);

static bool armed;
/* Of the libfuse whose session got the rows; before that, nobody has a request to answer. */
static int (*reply_err)(fuse_req_t, int);
static int (*reply_lseek)(fuse_req_t, off_t);

void rows_arm(bool now) { armed = now; }

bool rows_armed(void) { return armed; }

int rows_reply_error(void *request, int error) { return reply_err(request, error); }

int rows_reply_offset(void *request, int64_t offset) { return reply_lseek(request, offset); }

static void fallocate_row(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                          struct fuse_file_info *fi) {
    if (!rows_fallocate(req, fi->fh, mode, offset, length))
        reply_err(req, EIO);
}

static void lseek_row(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi) {
    if (!rows_lseek(req, fi->fh, offset, whence))
        reply_err(req, EIO);
}

/* What `name` is to the library that `address` is in: searched for in it and in what it is linked with, where this
 * library is not. */
static void *theirs(void *address, const char *name) {
    Dl_info info;
    void *library, *found = NULL;

    if (dladdr(address, &info) && (library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD))) {
        found = dlsym(library, name);
        dlclose(library); /* it stays: it is running */
    }
    if (!found)
        fprintf(stderr, "gofer: the caller of libfuse is linked with no %s\n", name);
    return found;
}

/* A copy of the table with the rows it lacks, and its size; NULL for a session that is not to get them. libfuse copies
 * it once more. */
static struct fuse_lowlevel_ops *with_rows(void *caller, const struct fuse_lowlevel_ops *ops, size_t *size) {
    struct fuse_lowlevel_ops *copy;

    if (!armed || !ops || !(reply_err = theirs(caller, "fuse_reply_err")) ||
        !(reply_lseek = theirs(caller, "fuse_reply_lseek")))
        return NULL;
    copy = calloc(1, *size > ROWS_END ? *size : ROWS_END);
    if (!copy)
        return NULL;
    memcpy(copy, ops, *size);
    if (*size < ROWS_END)
        *size = ROWS_END;
    if (!copy->fallocate)
        copy->fallocate = fallocate_row;
    if (!copy->lseek)
        copy->lseek = lseek_row;
    armed = false;
    return copy;
}

OFFERED struct fuse_session *fuse_session_new(struct fuse_args *args, const struct fuse_lowlevel_ops *ops, size_t size,
                                              void *userdata) {
    void *caller = __builtin_return_address(0);
    new_fn make = theirs(caller, "fuse_session_new");
    struct fuse_lowlevel_ops *more = make ? with_rows(caller, ops, &size) : NULL;
    struct fuse_session *made = make ? make(args, more ? more : ops, size, userdata) : NULL;

    free(more);
    return made;
}

OFFERED struct fuse_session *fuse_session_new_versioned(struct fuse_args *args, const struct fuse_lowlevel_ops *ops,
                                                        size_t size, struct libfuse_version *version,
                                                        void *userdata) {
    void *caller = __builtin_return_address(0);
    new_versioned_fn make = theirs(caller, "fuse_session_new_versioned");
    struct fuse_lowlevel_ops *more = make ? with_rows(caller, ops, &size) : NULL;
    struct fuse_session *made = make ? make(args, more ? more : ops, size, version, userdata) : NULL;

    free(more);
    return made;
}
