/*
 * rapport.h: Rapport strategies in C, freestanding, ABI 1 (see ../ABI.md).
 *
 * Include it in the one source file of a strategy, which gives
 *
 *   RAPPORT_MANIFEST("{\"abi\":1,…}")            the manifest, a string literal
 *   static void rank(const struct rapport_call *c)   scores every candidate
 *
 * and build it without a C library:
 *
 *   clang --target=wasm32 -O2 -nostdlib -ffp-contract=off -Wl,--no-entry \
 *         -Wl,-z,stack-size=8192 -o strategy.wasm strategy.c
 *
 * The manifest may say how much fuel, about one unit an instruction, is enough
 * for a call, so that one that got dearer is found out:
 * "fuel":{"base":N,"per_candidate":N}. Without it the server's limit holds.
 *
 * Every call begins with the memory that the module had after it was configured,
 * so a static variable that a call writes is back to what it was for the next.
 * There is no malloc: use the stack (8 KB as built above) or static memory.
 */
#ifndef RAPPORT_H
#define RAPPORT_H

typedef unsigned int rapport_u32;
typedef unsigned long long rapport_u64;
typedef long long rapport_i64;

#define RAPPORT_ABI 1
#define RAPPORT_ALIGN 64
#define RAPPORT_STATIC_MAGIC 0x31535052u
#define RAPPORT_FRAME_MAGIC 0x31465052u

#define RAPPORT_LOG_DEBUG (-4)
#define RAPPORT_LOG_INFO 0
#define RAPPORT_LOG_WARN 4
#define RAPPORT_LOG_ERROR 8

/* The static block: the same for every call. Places count from its start. */
struct rapport_static {
  rapport_u32 magic, version, header_size, size;
  rapport_u32 candidates, parameters, offer_columns, channel_columns;
  rapport_u32 parameters_at, offer_at, offer_presence_at, channel_at;
  rapport_u32 channel_presence_at, strings_at, strings_size;
  rapport_u32 frame_at, frame_capacity;
  rapport_u32 reserved[3];
};

/* The call frame. Places count from its start. */
struct rapport_frame {
  rapport_u32 magic, version, header_size, size;
  rapport_u32 candidates, profile, columns, strings_size;
  rapport_i64 now;
  rapport_u64 seed;
  rapport_u32 presence_at, cells_at, strings_at, index_at;
  rapport_u32 columns_at, output_at, output_size;
  rapport_u32 score_at, reason_at, veto_at;
  rapport_u32 chance_at;
  rapport_u32 reserved[1];
};

_Static_assert(sizeof(struct rapport_static) == 80, "static header");
_Static_assert(sizeof(struct rapport_frame) == 96, "frame header");

/* One call: what there is to read, and where to write. */
struct rapport_call {
  const struct rapport_static *fixed;
  const struct rapport_frame *frame;
  rapport_u32 n;            /* candidates to rank */
  const double *parameters; /* in declared order */
  const rapport_u32 *index; /* n rows of the static tables */
  double *score;            /* n, to be written: finite */
  rapport_u32 *reason;      /* n, 0 or a declared code */
  rapport_u64 *veto;        /* bit i: not to be offered */
};

/* A text: not terminated by a zero. */
struct rapport_text {
  const char *data;
  rapport_u32 size;
};

__attribute__((import_module("rapport"), import_name("log"))) void
rapport_log(int level, const char *text, rapport_u32 size);

#define RAPPORT_INLINE static inline __attribute__((always_inline, unused))

/* Column k of the declared candidate columns: n numbers. */
RAPPORT_INLINE const double *rapport_column(const struct rapport_call *c, rapport_u32 k) {
  return (const double *)((const char *)c->frame + c->frame->columns_at) + k * c->n;
}

RAPPORT_INLINE int rapport_bit(const rapport_u64 *bitmap, rapport_u32 i) {
  return (int)(bitmap[i / 64] >> (i % 64) & 1);
}

/* The customer's declared profile field k: 1 and the cell if it is known. A
 * number is a double, a flag 0 or 1, a time microseconds since 1970. */
RAPPORT_INLINE int rapport_profile_cell(const struct rapport_call *c, rapport_u32 k, rapport_u64 *cell) {
  const char *f = (const char *)c->frame;
  *cell = ((const rapport_u64 *)(f + c->frame->cells_at))[k];
  return rapport_bit((const rapport_u64 *)(f + c->frame->presence_at), k);
}

RAPPORT_INLINE double rapport_number(rapport_u64 cell) {
  double d;
  __builtin_memcpy(&d, &cell, sizeof d);
  return d;
}

/* The declared offer or channel attribute k of the candidate at position i. */
RAPPORT_INLINE int rapport_offer_cell(const struct rapport_call *c, rapport_u32 k, rapport_u32 i, rapport_u64 *cell) {
  const struct rapport_static *s = c->fixed;
  const char *b = (const char *)s;
  rapport_u32 row = c->index[i];
  *cell = ((const rapport_u64 *)(b + s->offer_at))[k * s->candidates + row];
  return rapport_bit((const rapport_u64 *)(b + s->offer_presence_at) + k * ((s->candidates + 63) / 64), row);
}

RAPPORT_INLINE int rapport_channel_cell(const struct rapport_call *c, rapport_u32 k, rapport_u32 i, rapport_u64 *cell) {
  const struct rapport_static *s = c->fixed;
  const char *b = (const char *)s;
  rapport_u32 row = c->index[i];
  *cell = ((const rapport_u64 *)(b + s->channel_at))[k * s->candidates + row];
  return rapport_bit((const rapport_u64 *)(b + s->channel_presence_at) + k * ((s->candidates + 63) / 64), row);
}

/* The text of a profile cell, or of an offer or channel cell. */
RAPPORT_INLINE struct rapport_text rapport_profile_text(const struct rapport_call *c, rapport_u64 cell) {
  struct rapport_text t = {(const char *)c->frame + c->frame->strings_at + (rapport_u32)cell, (rapport_u32)(cell >> 32)};
  return t;
}

RAPPORT_INLINE struct rapport_text rapport_static_text(const struct rapport_call *c, rapport_u64 cell) {
  struct rapport_text t = {(const char *)c->fixed + c->fixed->strings_at + (rapport_u32)cell, (rapport_u32)(cell >> 32)};
  return t;
}

RAPPORT_INLINE void rapport_set_veto(const struct rapport_call *c, rapport_u32 i) {
  c->veto[i / 64] |= 1ull << (i % 64);
}

/* ---- what the module exports --------------------------------------------- */

#define RAPPORT_EXPORT(name) __attribute__((export_name(#name), visibility("default")))

#define RAPPORT_MANIFEST(json)                                                      \
  static const char rapport_manifest[] = json;                                      \
  static rapport_u64 rapport_manifest_span(void) {                                  \
    return (rapport_u64)(rapport_u32)rapport_manifest << 32 | (sizeof rapport_manifest - 1); \
  }

static void rank(const struct rapport_call *c);
static rapport_u64 rapport_manifest_span(void);
static char *rapport_arena_at;

RAPPORT_EXPORT(rapport_abi_1) void rapport_export_abi(void) {}

RAPPORT_EXPORT(rapport_describe) rapport_u64 rapport_export_describe(void) { return rapport_manifest_span(); }

/* The arena is behind the module's own memory, which grows by what it needs. */
RAPPORT_EXPORT(rapport_arena) rapport_u32 rapport_export_arena(rapport_u32 size) {
  extern char __heap_base;
  rapport_u32 at = ((rapport_u32)&__heap_base + RAPPORT_ALIGN - 1) & -RAPPORT_ALIGN;
  rapport_u32 have = (rapport_u32)__builtin_wasm_memory_size(0) * 65536u;
  if (at + size < at) return 0;
  if (at + size > have) {
    rapport_u32 pages = (at + size - have + 65535u) / 65536u;
    if (__builtin_wasm_memory_grow(0, pages) == (__SIZE_TYPE__)-1) return 0;
  }
  rapport_arena_at = (char *)at;
  return at;
}

RAPPORT_EXPORT(rapport_configure) rapport_u32 rapport_export_configure(rapport_u32 ptr, rapport_u32 size) {
  const struct rapport_static *s = (const struct rapport_static *)ptr;
  if ((char *)ptr != rapport_arena_at || size < sizeof *s) return 1;
  return !(s->magic == RAPPORT_STATIC_MAGIC && s->version == RAPPORT_ABI);
}

RAPPORT_EXPORT(rapport_rank) rapport_u64 rapport_export_rank(rapport_u32 size) {
  char *block = rapport_arena_at;
  const struct rapport_static *s = (const struct rapport_static *)block;
  char *b = block + s->frame_at;
  const struct rapport_frame *f = (const struct rapport_frame *)b;
  if (f->magic != RAPPORT_FRAME_MAGIC || f->version != RAPPORT_ABI || f->size != size) return 2;
  struct rapport_call c = {
      s,
      f,
      f->candidates,
      (const double *)(block + s->parameters_at),
      (const rapport_u32 *)(b + f->index_at),
      (double *)(b + f->score_at),
      (rapport_u32 *)(b + f->reason_at),
      (rapport_u64 *)(b + f->veto_at),
  };
  rank(&c);
  return (rapport_u64)f->candidates << 32;
}

#endif
