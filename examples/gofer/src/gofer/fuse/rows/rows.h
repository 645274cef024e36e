/* What Python asks of rows.c; the reasons are in __init__.py. Everything is for the thread that holds the GIL. */
#ifndef GOFER_ROWS_H
#define GOFER_ROWS_H

#include <stdbool.h>
#include <stdint.h>

/* Whether the next session that is made gets the rows. */
void rows_arm(bool armed);

/* False once a session got them. */
bool rows_armed(void);

/* Answer a request: once each, and while its session is there. 0, or an errno (negative) from writing the answer. */
int rows_reply_error(void *request, int error);
int rows_reply_offset(void *request, int64_t offset);

/* Python's, called within fuse_session_process_buf: whether somebody will answer the request. */
extern int rows_fallocate(void *request, uint64_t handle, int mode, int64_t offset, int64_t length);
extern int rows_lseek(void *request, uint64_t handle, int64_t offset, int whence);

#endif
