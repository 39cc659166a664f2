/* Unpacks one layer of an image into a folder, as overlayfs wants it.
 *
 * The bytes of its tar archive come in pieces of any size; nothing is kept of them but the header
 * that is being read. Nothing outside of the folder is read or written, whatever the archive says.
 * No thread, no global state; allocates a bounded amount.
 *
 * Source: OCI image-spec 1.1, layer.md; Documentation/filesystems/overlayfs.rst, "whiteouts and
 * opaque directories". docs/layers.md says what becomes what. */
#ifndef PYCONTAIN_LAYER_H
#define PYCONTAIN_LAYER_H

#include <stddef.h>
#include <stdint.h>

struct layer;

/* `root` is a descriptor of the folder, and stays the caller's. `rootless`: in a user namespace.
 * At most `entries`, and `bytes` of files. NULL: out of memory. */
struct layer *layer_new(int root, int rootless, uint64_t entries, uint64_t bytes);
void layer_free(struct layer *layer);
/* 0, or -1; not to be called again then. */
int layer_feed(struct layer *layer, const char *data, size_t size);
int layer_finish(struct layer *layer);

/* Of a failure: the entry that it is about (or the last before it), what is wrong or which step
 * failed, and errno (0 where no system call failed). */
const char *layer_where(const struct layer *layer);
const char *layer_why(const struct layer *layer);
int layer_error(const struct layer *layer);

uint64_t layer_entries(const struct layer *layer);
uint64_t layer_size(const struct layer *layer);
/* An entry hides what is in the layers below: all of it. */
int layer_is_opaque(const struct layer *layer);
/* An entry listed the root. */
int layer_has_root(const struct layer *layer);
/* Whether there is a folder now at a path that a note names. */
int layer_has_folder(const struct layer *layer, const char *path);
/* The records of tree.h, `size` bytes of them. */
const char *layer_notes(const struct layer *layer, size_t *size);

#endif
