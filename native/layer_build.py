"""The cffi extension ``pycontain._native._layer``: unpacks layers (layer.h)."""

from __future__ import annotations

from cffi import FFI

ffibuilder = FFI()
ffibuilder.cdef(
    """
    struct layer *layer_new(int root, int rootless, uint64_t entries, uint64_t bytes);
    void layer_free(struct layer *layer);
    int layer_feed(struct layer *layer, const char *data, size_t size);
    int layer_finish(struct layer *layer);
    const char *layer_where(const struct layer *layer);
    const char *layer_why(const struct layer *layer);
    int layer_error(const struct layer *layer);
    uint64_t layer_entries(const struct layer *layer);
    uint64_t layer_size(const struct layer *layer);
    int layer_is_opaque(const struct layer *layer);
    int layer_has_root(const struct layer *layer);
    int layer_has_folder(const struct layer *layer, const char *path);
    const char *layer_notes(const struct layer *layer, size_t *size);
    """
)
ffibuilder.set_source("pycontain._native._layer", '#include "layer.h"\n')
