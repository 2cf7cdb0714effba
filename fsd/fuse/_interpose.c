/*
 * Stands between pyfuse3 and libfuse for what pyfuse3 does not expose.
 *
 * This object defines some of libfuse's functions. Loaded with RTLD_GLOBAL before pyfuse3 (fsd/fuse/interpose.py), its
 * definitions are found first when pyfuse3 is linked; they change an argument and call libfuse's own. Python decides by
 * fsd_interpose_configure() before the session is made, and learns from fsd_interpose_state() what came of it. Without
 * this object, or where libfuse is one it does not know, everything works the ordinary way.
 *
 * What it is for:
 *
 *   no-open         Once `open` has answered ENOSYS, the kernel stops asking and READ comes with fh 0. pyfuse3 hands only fh
 *                   to its handler, so fh becomes the inode. (Ordinary opens give the inode as fh as well: one meaning.)
 *   max_background  The kernel's default of 12 asynchronous reads lets a dozen stalled ones block everybody's read-ahead.
 *   symlinks        The kernel may keep the targets of links: an inode of ours never changes its target.
 *   listings        A reply to opendir whose fh has FSD_CACHE_LISTING set lets the kernel keep the directory's listing.
 *   receiving       pyfuse3 sets write_buf, and libfuse then splices each request through a pipe: two more system calls for
 *                   each request of a mount that never sees a write. So write_buf is left out.
 *
 * The next one to come: a run's view must hide from the kernel the inodes of a listing, or it answers later lookups itself.
 * That is a definition of fuse_add_direntry_plus() here, which zeroes e->ino in a copy where the request's inode (kept by a
 * wrapped readdirplus) is in a view, and leaves e->attr.st_ino.
 *
 * Used by one thread: pyfuse3 has one session a process, and serves it from one thread.
 */

#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define FUSE_USE_VERSION 35
#include <fuse3/fuse_lowlevel.h>

#include <dlfcn.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

/* Keep in step with fsd/fuse/interpose.py. */
#define FSD_ABI 1
#define FSD_CACHE_LISTING (UINT64_C(1) << 63)

enum {
    FSD_SESSION = 1,     /* pyfuse3's session was made through us */
    FSD_INITIALISED = 2, /* the kernel has said hello */
    FSD_NO_OPEN = 4,     /* ... and understands ENOSYS from open; reads carry their inode */
    FSD_SYMLINKS = 8,    /* ... and keeps symlink targets */
};

static struct {
    int enabled; /* 0: pass everything through */
    int no_open;
    unsigned max_background;
    int symlinks;
} wanted;

static int state;
static int nested; /* libfuse's constructors may call each other by their exported names: wrap only once */
static struct fuse_lowlevel_ops original;

/* Newer libfuse turns this name into a macro, and declares the versioned one with varying constness: so ours have names of
 * their own in C, and libfuse's in the symbol table. */
#undef fuse_session_new
#undef fuse_reply_open

EXPORTED struct fuse_session *fsd_session_new(struct fuse_args *args, const struct fuse_lowlevel_ops *ops, size_t size,
                                              void *userdata) __asm__("fuse_session_new");
EXPORTED struct fuse_session *fsd_session_new_versioned(struct fuse_args *args, const struct fuse_lowlevel_ops *ops,
                                                        size_t size, const void *version, void *userdata)
    __asm__("fuse_session_new_versioned");
EXPORTED int fsd_reply_open(fuse_req_t req, const struct fuse_file_info *fi) __asm__("fuse_reply_open");

EXPORTED int fsd_interpose_abi(void);
EXPORTED void fsd_interpose_configure(int enabled, int no_open, unsigned max_background, int symlinks);
EXPORTED int fsd_interpose_state(void);

struct path {
    char text[4096];
};

/* Note the path of the loaded object that is libfuse, whatever its version. */
static int find_libfuse(struct dl_phdr_info *info, size_t size, void *result)
{
    static const char prefix[] = "libfuse3.so";
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *name = slash ? slash + 1 : info->dlpi_name;
    struct path *path = result;

    (void)size;
    if (strncmp(name, prefix, sizeof(prefix) - 1) != 0 || strlen(info->dlpi_name) >= sizeof(path->text))
        return 0;
    strcpy(path->text, info->dlpi_name);
    return 1;
}

/* libfuse's own definition of `name`. pyfuse3 has loaded the library, into a scope that RTLD_NEXT does not reach. */
static void *libfuse(const char *name)
{
    static void *library;
    struct path path;

    if (library == NULL && dl_iterate_phdr(find_libfuse, &path))
        library = dlopen(path.text, RTLD_LAZY | RTLD_NOLOAD);
    return library ? dlsym(library, name) : NULL;
}

static void wrapped_init(void *userdata, struct fuse_conn_info *conn)
{
    original.init(userdata, conn);
    state |= FSD_INITIALISED;
    if (wanted.no_open && (conn->capable & FUSE_CAP_NO_OPEN_SUPPORT))
        state |= FSD_NO_OPEN;
    if (wanted.symlinks && (conn->capable & FUSE_CAP_CACHE_SYMLINKS)) {
        conn->want |= FUSE_CAP_CACHE_SYMLINKS;
        state |= FSD_SYMLINKS;
    }
    if (wanted.max_background) {
        conn->max_background = wanted.max_background;
        conn->congestion_threshold = wanted.max_background / 4 * 3;
    }
}

static void wrapped_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
    struct fuse_file_info copy = *fi;

    copy.fh = ino;
    original.read(req, ino, size, offset, &copy);
}

/* Fill `ops` with what libfuse is to call. Returns its size, 0 if the table is not one that we understand. */
static size_t wrap(const struct fuse_lowlevel_ops *given, size_t size, struct fuse_lowlevel_ops *ops)
{
    if (given == NULL || size < offsetof(struct fuse_lowlevel_ops, retrieve_reply))
        return 0; /* older than any libfuse 3 */
    if (size > sizeof(*ops))
        size = sizeof(*ops);
    memset(ops, 0, sizeof(*ops));
    memcpy(ops, given, size);
    if (ops->init == NULL || ops->read == NULL)
        return 0;
    original = *ops;
    ops->init = wrapped_init;
    ops->read = wrapped_read;
    ops->write_buf = NULL;
    return size;
}

/* libfuse copies the table, and so may we keep ours on the stack. */

struct fuse_session *fsd_session_new(struct fuse_args *args, const struct fuse_lowlevel_ops *given, size_t size,
                                     void *userdata)
{
    struct fuse_session *(*real)(struct fuse_args *, const struct fuse_lowlevel_ops *, size_t, void *);
    struct fuse_session *session;
    struct fuse_lowlevel_ops ops;
    size_t wrapped;

    *(void **)&real = libfuse("fuse_session_new");
    if (real == NULL)
        return NULL;
    wrapped = wanted.enabled && !nested ? wrap(given, size, &ops) : 0;
    if (!wrapped)
        return real(args, given, size, userdata);
    nested = 1;
    session = real(args, &ops, wrapped, userdata);
    nested = 0;
    state = session ? FSD_SESSION : 0;
    return session;
}

struct fuse_session *fsd_session_new_versioned(struct fuse_args *args, const struct fuse_lowlevel_ops *given, size_t size,
                                               const void *version, void *userdata)
{
    struct fuse_session *(*real)(struct fuse_args *, const struct fuse_lowlevel_ops *, size_t, const void *, void *);
    struct fuse_session *session;
    struct fuse_lowlevel_ops ops;
    size_t wrapped;

    *(void **)&real = libfuse("fuse_session_new_versioned");
    if (real == NULL)
        return NULL;
    wrapped = wanted.enabled && !nested ? wrap(given, size, &ops) : 0;
    if (!wrapped)
        return real(args, given, size, version, userdata);
    nested = 1;
    session = real(args, &ops, wrapped, version, userdata);
    nested = 0;
    state = session ? FSD_SESSION : 0;
    return session;
}

int fsd_reply_open(fuse_req_t req, const struct fuse_file_info *fi)
{
    static int (*real)(fuse_req_t, const struct fuse_file_info *);
    struct fuse_file_info copy;

    if (real == NULL)
        *(void **)&real = libfuse("fuse_reply_open");
    if (real == NULL)
        return -ENOSYS;
    if (!wanted.enabled || !(fi->fh & FSD_CACHE_LISTING))
        return real(req, fi);
    copy = *fi;
    copy.fh &= ~FSD_CACHE_LISTING;
    copy.keep_cache = 1;
    copy.cache_readdir = 1;
    return real(req, &copy);
}

int fsd_interpose_abi(void)
{
    return FSD_ABI;
}

void fsd_interpose_configure(int enabled, int no_open, unsigned max_background, int symlinks)
{
    wanted.enabled = enabled;
    wanted.no_open = no_open;
    wanted.max_background = max_background;
    wanted.symlinks = symlinks;
}

int fsd_interpose_state(void)
{
    return state;
}

/* An importable module too, with nothing in it: that is what setuptools builds. */
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fsd.fuse._interpose",
    .m_doc = "To be loaded with ctypes; see fsd.fuse.interpose.",
};

PyMODINIT_FUNC PyInit__interpose(void)
{
    return PyModuleDef_Init(&module);
}
