/*
 * rapport.h: Rapport strategies in C11, freestanding, ABI 1. README.md, beside it,
 * says how a strategy is written and built; example/spenders.c is one.
 *
 * A strategy is one source file. It says what it reads and gives, in lists, includes
 * this header, and ranks:
 *
 *   #define RAPPORT_NAME "spenders"
 *   #define RAPPORT_VERSION "1.0.0"
 *   #define RAPPORT_DESCRIPTION "Dear offers to those who spend."
 *   #define RAPPORT_PROFILE(X) X(number, arpu, "value.arpu")
 *   #define RAPPORT_OFFER(X) X(number, price, "price")
 *   #define RAPPORT_CANDIDATE(X) X(chance, "propensity")
 *   #define RAPPORT_REASONS(X) X(SPENDER)
 *   #include "rapport.h"
 *
 *   static void rank(struct rapport_decision *d) {
 *     double spend = rapport_number_or(d, arpu, 0);
 *     for (rapport_u32 i = 0; i < d->n; i++)
 *       rapport_score(d, i, rapport_of(d, chance, i) * rapport_offer_number_or(d, price, i, 0));
 *   }
 *
 * Each line of a list declares a constant of the given name, by which the input is read.
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

#define RAPPORT_INLINE static inline __attribute__((always_inline, unused))

/* ---- what a strategy declares -------------------------------------------- */

#if !defined RAPPORT_NAME || !defined RAPPORT_VERSION
#error "define RAPPORT_NAME and RAPPORT_VERSION before rapport.h is included"
#endif
#ifndef RAPPORT_DESCRIPTION
#define RAPPORT_DESCRIPTION ""
#endif
#ifndef RAPPORT_PROFILE /* X(number|flag|text|time|set, name, "group.field") */
#define RAPPORT_PROFILE(X)
#endif
#ifndef RAPPORT_OFFER /* X(number|flag|text, name, "attribute") */
#define RAPPORT_OFFER(X)
#endif
#ifndef RAPPORT_CHANNEL /* X(number|flag|text, name, "attribute") */
#define RAPPORT_CHANNEL(X)
#endif
#ifndef RAPPORT_CANDIDATE /* X(name, "propensity"), X(name, "times.rejected.30d") … */
#define RAPPORT_CANDIDATE(X)
#endif
#ifndef RAPPORT_PARAMETERS /* X(name, default, least, greatest) */
#define RAPPORT_PARAMETERS(X)
#endif
#ifndef RAPPORT_REASONS /* X(NAME) */
#define RAPPORT_REASONS(X)
#endif
#ifndef RAPPORT_SAYS_CHANCES /* 1: the strategy calls rapport_chance */
#define RAPPORT_SAYS_CHANCES 0
#endif
/* RAPPORT_BUDGET says how much fuel, about a unit an instruction, is enough: for a call,
 * and for each candidate, as in #define RAPPORT_BUDGET 200000, 500. If it is not defined,
 * the server's limit is all there is. */

/* Constants by which inputs are read. They differ in type, so that one can't be taken
 * for another. */
struct rapport_field_number { rapport_u32 field; };
struct rapport_field_flag { rapport_u32 field; };
struct rapport_field_text { rapport_u32 field; };
struct rapport_field_time { rapport_u32 field; };
struct rapport_field_set { rapport_u32 field; };
struct rapport_offer_number { rapport_u32 offer; };
struct rapport_offer_flag { rapport_u32 offer; };
struct rapport_offer_text { rapport_u32 offer; };
struct rapport_channel_number { rapport_u32 channel; };
struct rapport_channel_flag { rapport_u32 channel; };
struct rapport_channel_text { rapport_u32 channel; };
struct rapport_column { rapport_u32 column; };
struct rapport_parameter { rapport_u32 parameter; };

#define RAPPORT_PLACE_PROFILE(kind, name, text) RAPPORT_FIELD_##name,
#define RAPPORT_PLACE_OFFER(kind, name, text) RAPPORT_OFFER_##name,
#define RAPPORT_PLACE_CHANNEL(kind, name, text) RAPPORT_CHANNEL_##name,
#define RAPPORT_PLACE_COLUMN(name, text) RAPPORT_COLUMN_##name,
#define RAPPORT_PLACE_PARAMETER(name, standard, least, most) RAPPORT_PARAMETER_##name,
#define RAPPORT_PLACE_REASON(name) name,
enum { RAPPORT_PROFILE(RAPPORT_PLACE_PROFILE) RAPPORT_PROFILE_COUNT };
enum { RAPPORT_OFFER(RAPPORT_PLACE_OFFER) RAPPORT_OFFER_COUNT };
enum { RAPPORT_CHANNEL(RAPPORT_PLACE_CHANNEL) RAPPORT_CHANNEL_COUNT };
enum { RAPPORT_CANDIDATE(RAPPORT_PLACE_COLUMN) RAPPORT_COLUMN_COUNT };
enum { RAPPORT_PARAMETERS(RAPPORT_PLACE_PARAMETER) RAPPORT_PARAMETER_COUNT };
enum { RAPPORT_NO_REASON, RAPPORT_REASONS(RAPPORT_PLACE_REASON) RAPPORT_REASON_END };

#define RAPPORT_CONSTANT static const __attribute__((unused)) struct
#define RAPPORT_HANDLE_PROFILE(kind, name, text) RAPPORT_CONSTANT rapport_field_##kind name = {RAPPORT_FIELD_##name};
#define RAPPORT_HANDLE_OFFER(kind, name, text) RAPPORT_CONSTANT rapport_offer_##kind name = {RAPPORT_OFFER_##name};
#define RAPPORT_HANDLE_CHANNEL(kind, name, text) RAPPORT_CONSTANT rapport_channel_##kind name = {RAPPORT_CHANNEL_##name};
#define RAPPORT_HANDLE_COLUMN(name, text) RAPPORT_CONSTANT rapport_column name = {RAPPORT_COLUMN_##name};
#define RAPPORT_FOLD(x) (__builtin_constant_p(x) ? (x) : (x)) /* a constant that may be of doubles */
#define RAPPORT_HANDLE_PARAMETER(name, standard, least, most)                         \
  _Static_assert(RAPPORT_FOLD((least) <= (standard) && (standard) <= (most)),         \
                 "the default of the parameter " #name " is not within its bounds");  \
  RAPPORT_CONSTANT rapport_parameter name = {RAPPORT_PARAMETER_##name};
RAPPORT_PROFILE(RAPPORT_HANDLE_PROFILE)
RAPPORT_OFFER(RAPPORT_HANDLE_OFFER)
RAPPORT_CHANNEL(RAPPORT_HANDLE_CHANNEL)
RAPPORT_CANDIDATE(RAPPORT_HANDLE_COLUMN)
RAPPORT_PARAMETERS(RAPPORT_HANDLE_PARAMETER)

/* ---- the blocks that the host writes: see ABI.md -------------------------- */

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

/* ---- a decision ----------------------------------------------------------- */

/* One decision: a customer, a moment, and the candidates to rank. A candidate is an
 * offer in a channel, and goes by its position i, 0 to n−1. */
struct rapport_decision {
  const struct rapport_static *fixed;
  const struct rapport_frame *frame;
  rapport_u32 n;            /* candidates to rank */
  rapport_i64 now;          /* the time of the decision: microseconds since 1970 */
  const rapport_u32 *index; /* which candidate of the scenario each is */
  double *score;            /* n outputs, as rapport_score sets them */
  rapport_u32 *reason;      /* n, as rapport_because does */
  rapport_u64 *veto;        /* n bits, as rapport_veto does */
  double *chances;          /* n, as rapport_chance does; none if it is not declared */
  rapport_u64 random;       /* state of rapport_rand_… */
};

/* A text: UTF-8, not terminated by a zero. It is valid until rank returns. */
struct rapport_text {
  const char *data;
  rapport_u32 size;
};

/* The text of a string literal. */
#define RAPPORT_TEXT(literal) ((struct rapport_text){"" literal, sizeof(literal) - 1})

RAPPORT_INLINE int rapport_equal(struct rapport_text a, struct rapport_text b) {
  if (a.size != b.size) return 0;
  for (rapport_u32 i = 0; i < a.size; i++)
    if (a.data[i] != b.data[i]) return 0;
  return 1;
}

RAPPORT_INLINE int rapport_bit(const rapport_u64 *bitmap, rapport_u32 i) {
  return (int)(bitmap[i / 64] >> (i % 64) & 1);
}

RAPPORT_INLINE double rapport_double(rapport_u64 cell) {
  double d;
  __builtin_memcpy(&d, &cell, sizeof d);
  return d;
}

RAPPORT_INLINE rapport_u64 rapport_cell(const struct rapport_decision *d, rapport_u32 k) {
  return ((const rapport_u64 *)((const char *)d->frame + d->frame->cells_at))[k];
}

RAPPORT_INLINE struct rapport_text rapport_text_at(const void *block, rapport_u32 strings, rapport_u64 cell) {
  return (struct rapport_text){(const char *)block + strings + (rapport_u32)cell, (rapport_u32)(cell >> 32)};
}

RAPPORT_INLINE int rapport_field_known(const struct rapport_decision *d, rapport_u32 k) {
  return rapport_bit((const rapport_u64 *)((const char *)d->frame + d->frame->presence_at), k);
}

/* Whether a field of the customer's profile, or of the request's context, is known. */
#define rapport_known(d, f) rapport_field_known(d, (f).field)

/* The value of a field, or the given one if it is unknown. A time is in microseconds
 * since 1970. */
RAPPORT_INLINE double rapport_number_or(const struct rapport_decision *d, struct rapport_field_number f, double unknown) {
  return rapport_known(d, f) ? rapport_double(rapport_cell(d, f.field)) : unknown;
}

RAPPORT_INLINE int rapport_flag_or(const struct rapport_decision *d, struct rapport_field_flag f, int unknown) {
  return rapport_known(d, f) ? rapport_cell(d, f.field) != 0 : unknown;
}

RAPPORT_INLINE struct rapport_text rapport_text_or(const struct rapport_decision *d, struct rapport_field_text f, struct rapport_text unknown) {
  return rapport_known(d, f) ? rapport_text_at(d->frame, d->frame->strings_at, rapport_cell(d, f.field)) : unknown;
}

RAPPORT_INLINE rapport_i64 rapport_time_or(const struct rapport_decision *d, struct rapport_field_time f, rapport_i64 unknown) {
  return rapport_known(d, f) ? (rapport_i64)rapport_cell(d, f.field) : unknown;
}

/* The elements of a set, in ascending order; none if it is unknown:
 *
 *   struct rapport_text all = rapport_all(d, owned), element;
 *   while (rapport_next(&all, &element)) …
 */
RAPPORT_INLINE struct rapport_text rapport_all(const struct rapport_decision *d, struct rapport_field_set f) {
  return rapport_text_at(d->frame, d->frame->strings_at, rapport_cell(d, f.field));
}

RAPPORT_INLINE int rapport_next(struct rapport_text *rest, struct rapport_text *element) {
  rapport_u32 size = 0;
  if (!rest->size) return 0;
  while (size < rest->size && rest->data[size] != ';') size++;
  *element = (struct rapport_text){rest->data, size};
  if (size < rest->size) size++;
  *rest = (struct rapport_text){rest->data + size, rest->size - size};
  return 1;
}

/* Whether an element is among those of a set, which are in ascending order: looks in the
 * middle until little is left, and then through that. */
static __attribute__((noinline, unused)) int rapport_find(struct rapport_text all, struct rapport_text element) {
  rapport_u32 low = 0, high = all.size;
  while (low + 64 < high) {
    rapport_u32 at = low + (high - low) / 2, i = 0;
    while (at > low && all.data[at - 1] != ';') at--;
    while (i < element.size && at + i < all.size && all.data[at + i] != ';' && all.data[at + i] == element.data[i]) i++;
    int over = at + i == all.size || all.data[at + i] == ';';
    if (i == element.size && over) return 1;
    if (i == element.size || (!over && (unsigned char)all.data[at + i] > (unsigned char)element.data[i])) {
      high = at;
      continue;
    }
    for (low = at + i; low < all.size && all.data[low] != ';';) low++;
    low++;
  }
  struct rapport_text rest = {all.data + low, low < high ? high - low : 0}, e;
  while (rapport_next(&rest, &e))
    if (rapport_equal(e, element)) return 1;
  return 0;
}

/* Whether an element is in a set; it is not in one that is unknown. */
RAPPORT_INLINE int rapport_has(const struct rapport_decision *d, struct rapport_field_set f, struct rapport_text element) {
  return rapport_find(rapport_all(d, f), element);
}

/* How many elements a set has, 0 if it is unknown. */
RAPPORT_INLINE rapport_u32 rapport_len(const struct rapport_decision *d, struct rapport_field_set f) {
  struct rapport_text all = rapport_all(d, f), e;
  rapport_u32 n = 0;
  while (rapport_next(&all, &e)) n++;
  return n;
}

/* Attributes of the offer and of the channel of the candidate at position i, by the same
 * words. */
#define RAPPORT_ATTRIBUTES(of)                                                                                  \
  RAPPORT_INLINE int rapport_##of##_has(const struct rapport_decision *d, rapport_u32 k, rapport_u32 i) {       \
    const struct rapport_static *s = d->fixed;                                                                  \
    return rapport_bit((const rapport_u64 *)((const char *)s + s->of##_presence_at) + k * ((s->candidates + 63) / 64), d->index[i]); \
  }                                                                                                             \
  RAPPORT_INLINE rapport_u64 rapport_##of##_cell(const struct rapport_decision *d, rapport_u32 k, rapport_u32 i) { \
    const struct rapport_static *s = d->fixed;                                                                  \
    return ((const rapport_u64 *)((const char *)s + s->of##_at))[k * s->candidates + d->index[i]];              \
  }                                                                                                             \
  RAPPORT_INLINE double rapport_##of##_number_or(const struct rapport_decision *d, struct rapport_##of##_number a, rapport_u32 i, double unknown) { \
    return rapport_##of##_has(d, a.of, i) ? rapport_double(rapport_##of##_cell(d, a.of, i)) : unknown;          \
  }                                                                                                             \
  RAPPORT_INLINE int rapport_##of##_flag_or(const struct rapport_decision *d, struct rapport_##of##_flag a, rapport_u32 i, int unknown) { \
    return rapport_##of##_has(d, a.of, i) ? rapport_##of##_cell(d, a.of, i) != 0 : unknown;                     \
  }                                                                                                             \
  RAPPORT_INLINE struct rapport_text rapport_##of##_text_or(const struct rapport_decision *d, struct rapport_##of##_text a, rapport_u32 i, struct rapport_text unknown) { \
    return rapport_##of##_has(d, a.of, i) ? rapport_text_at(d->fixed, d->fixed->strings_at, rapport_##of##_cell(d, a.of, i)) : unknown; \
  }
RAPPORT_ATTRIBUTES(offer)
RAPPORT_ATTRIBUTES(channel)
#define rapport_offer_known(d, a, i) rapport_offer_has(d, (a).offer, i)
#define rapport_channel_known(d, a, i) rapport_channel_has(d, (a).channel, i)

/* A candidate column: n numbers. */
RAPPORT_INLINE const double *rapport_column(const struct rapport_decision *d, struct rapport_column k) {
  return (const double *)((const char *)d->frame + d->frame->columns_at) + k.column * d->n;
}

/* The number of the candidate at position i. */
RAPPORT_INLINE double rapport_of(const struct rapport_decision *d, struct rapport_column k, rapport_u32 i) {
  return rapport_column(d, k)[i];
}

/* The value of a parameter. */
RAPPORT_INLINE double rapport_parameter(const struct rapport_decision *d, struct rapport_parameter p) {
  return ((const double *)((const char *)d->fixed + d->fixed->parameters_at))[p.parameter];
}

/* ---- what a strategy answers ---------------------------------------------- */

/* Sets a candidate's score: finite; the greatest wins. */
RAPPORT_INLINE void rapport_score(struct rapport_decision *d, rapport_u32 i, double score) { d->score[i] = score; }

/* Sets the reason for it, of RAPPORT_REASONS. */
RAPPORT_INLINE void rapport_because(struct rapport_decision *d, rapport_u32 i, rapport_u32 reason) { d->reason[i] = reason; }

/* Says with which probability, above 0 and at most 1, the strategy's own draws put the
 * candidate where it is. Declare it: RAPPORT_SAYS_CHANCES 1. */
#if !RAPPORT_SAYS_CHANCES
__attribute__((unavailable("define RAPPORT_SAYS_CHANCES as 1 before rapport.h is included")))
#endif
RAPPORT_INLINE void rapport_chance(struct rapport_decision *d, rapport_u32 i, double p) { d->chances[i] = p; }

/* Says that a candidate is not to be offered. It needs no score. */
RAPPORT_INLINE void rapport_veto(struct rapport_decision *d, rapport_u32 i) {
  d->veto[i / 64] |= 1ull << (i % 64);
  if (d->score[i] != d->score[i]) d->score[i] = 0;
}

__attribute__((import_module("rapport"), import_name("log"))) void
rapport_host_log(int level, const char *text, rapport_u32 size);

/* Writes a line to the server's log, which keeps the first few lines of a call. */
RAPPORT_INLINE void rapport_log(int level, struct rapport_text line) { rapport_host_log(level, line.data, line.size); }

/* ---- the same in all languages -------------------------------------------- */

RAPPORT_INLINE rapport_u64 rapport_split(rapport_u64 *state) {
  rapport_u64 z = *state += 0x9E3779B97F4A7C15ull;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return z ^ z >> 31;
}

/* A number of 64 random bits: the same when the decision is replayed. */
RAPPORT_INLINE rapport_u64 rapport_rand_uint64(struct rapport_decision *d) { return rapport_split(&d->random); }

/* A random number from 0 to below 1. */
RAPPORT_INLINE double rapport_rand_float64(struct rapport_decision *d) {
  return (double)(rapport_i64)(rapport_rand_uint64(d) >> 11) * 0x1p-53;
}

/* A random number from 0 to n−1, each as likely; n is 1 to 2³¹−1. */
RAPPORT_INLINE rapport_u32 rapport_rand_int_n(struct rapport_decision *d, rapport_u32 n) {
  if (!n || n > 0x7FFFFFFF) return 0;
  for (;;) {
    rapport_u64 product = (rapport_rand_uint64(d) >> 32) * n;
    if ((rapport_u32)product >= -n % n) return (rapport_u32)(product >> 32);
  }
}

/* e to the power of x, with the bits that ABI.md says. */
static __attribute__((noinline, unused)) double rapport_exp(double x) {
#pragma clang fp contract(off)
  if (x != x) return rapport_double(0x7FF8000000000000ull);
  if (x > 709.782712893384) return __builtin_inf();
  if (x < -745.1332191019411) return 0;
  int k = (int)(x * 1.4426950408889634 + (x < 0 ? -0.5 : 0.5));
  double high = x - k * 0.6931471803691238, low = k * 1.9082149292705877e-10;
  double r = high - low, t = r * r;
  double p = 0.16666666666666602 + t * (-0.0027777777777015593 + t * (6.613756321437934e-05 + t * (-1.6533902205465252e-06 + t * 4.1381367970572385e-08)));
  double c = r - t * p;
  double y = 1 - ((low - (r * c) / (2 - c)) - high);
  int a = k >> 1;
  return y * rapport_double((rapport_u64)(a + 1023) << 52) * rapport_double((rapport_u64)(k - a + 1023) << 52);
}

/* ---- what the module exports --------------------------------------------- */

static void rank(struct rapport_decision *d);
static char *rapport_arena_at;

#define RAPPORT_EXPORT(name) __attribute__((export_name(#name), visibility("default")))

#define RAPPORT_JSON_INPUT(kind, name, text) ",{\"name\":\"" text "\",\"type\":\"" #kind "\"}"
#define RAPPORT_JSON_COLUMN(name, text) ",\"" text "\""
#define RAPPORT_JSON_PARAMETER(name, standard, least, most) \
  ",{\"name\":\"" #name "\",\"default\":" #standard ",\"min\":" #least ",\"max\":" #most "}"
#define RAPPORT_JSON_REASON(name) ",\"" #name "\""

#define RAPPORT_JSON_FUEL(base, per_candidate) ",\"fuel\":{\"base\":" #base ",\"per_candidate\":" #per_candidate "}"
#define RAPPORT_JSON_BUDGET(...) RAPPORT_JSON_FUEL(__VA_ARGS__)
#if RAPPORT_SAYS_CHANCES
#define RAPPORT_JSON_CHANCES ",\"probability\":true"
#else
#define RAPPORT_JSON_CHANCES ""
#endif
#ifdef RAPPORT_BUDGET
#define RAPPORT_JSON_END "]" RAPPORT_JSON_CHANCES RAPPORT_JSON_BUDGET(RAPPORT_BUDGET) "}"
#else
#define RAPPORT_JSON_END "]" RAPPORT_JSON_CHANCES "}"
#endif

#define RAPPORT_SMALL static __attribute__((noinline, minsize)) /* it runs once */

#ifdef RAPPORT_MANIFEST /* a string literal: the manifest, in place of what the lists say */
#define RAPPORT_COUNTS(condition) 1

static const char rapport_manifest[] = RAPPORT_MANIFEST;

RAPPORT_EXPORT(rapport_describe) rapport_u64 rapport_export_describe(void) {
  return (rapport_u64)(rapport_u32)rapport_manifest << 32 | (sizeof rapport_manifest - 1);
}

#else
#define RAPPORT_COUNTS(condition) (condition)

/* The manifest is put together here: a list begins with a comma, which is left out, and a
 * description may have what JSON escapes. */
static char rapport_manifest[6 * sizeof(RAPPORT_DESCRIPTION) + sizeof(RAPPORT_NAME RAPPORT_VERSION
    RAPPORT_PROFILE(RAPPORT_JSON_INPUT) RAPPORT_OFFER(RAPPORT_JSON_INPUT) RAPPORT_CHANNEL(RAPPORT_JSON_INPUT)
    RAPPORT_CANDIDATE(RAPPORT_JSON_COLUMN) RAPPORT_PARAMETERS(RAPPORT_JSON_PARAMETER) RAPPORT_REASONS(RAPPORT_JSON_REASON)
    RAPPORT_JSON_END) + 200];
static rapport_u32 rapport_manifest_size;

static void rapport_put(char c) { rapport_manifest[rapport_manifest_size++] = c; }

RAPPORT_SMALL void rapport_put_text(struct rapport_text t) {
  for (rapport_u32 i = 0; i < t.size; i++) rapport_put(t.data[i]);
}

RAPPORT_SMALL void rapport_put_list(struct rapport_text before, struct rapport_text list) {
  rapport_put_text(before);
  if (list.size) rapport_put_text((struct rapport_text){list.data + 1, list.size - 1});
}

RAPPORT_SMALL void rapport_put_escaped(struct rapport_text t) {
  for (rapport_u32 i = 0; i < t.size; i++) {
    unsigned char c = (unsigned char)t.data[i];
    if (c < ' ') {
      rapport_put_text(RAPPORT_TEXT("\\u00"));
      rapport_put("0123456789abcdef"[c >> 4]);
      rapport_put("0123456789abcdef"[c & 15]);
      continue;
    }
    if (c == '"' || c == '\\') rapport_put('\\');
    rapport_put((char)c);
  }
}

RAPPORT_EXPORT(rapport_describe) __attribute__((minsize)) rapport_u64 rapport_export_describe(void) {
  rapport_manifest_size = 0;
  rapport_put_text(RAPPORT_TEXT("{\"abi\":1,\"name\":\"" RAPPORT_NAME "\",\"version\":\"" RAPPORT_VERSION "\",\"description\":\""));
  rapport_put_escaped(RAPPORT_TEXT(RAPPORT_DESCRIPTION));
  rapport_put_list(RAPPORT_TEXT("\",\"profile\":["), RAPPORT_TEXT("" RAPPORT_PROFILE(RAPPORT_JSON_INPUT)));
  rapport_put_list(RAPPORT_TEXT("],\"offer\":["), RAPPORT_TEXT("" RAPPORT_OFFER(RAPPORT_JSON_INPUT)));
  rapport_put_list(RAPPORT_TEXT("],\"channel\":["), RAPPORT_TEXT("" RAPPORT_CHANNEL(RAPPORT_JSON_INPUT)));
  rapport_put_list(RAPPORT_TEXT("],\"candidate\":["), RAPPORT_TEXT("" RAPPORT_CANDIDATE(RAPPORT_JSON_COLUMN)));
  rapport_put_list(RAPPORT_TEXT("],\"parameters\":["), RAPPORT_TEXT("" RAPPORT_PARAMETERS(RAPPORT_JSON_PARAMETER)));
  rapport_put_list(RAPPORT_TEXT("],\"reasons\":["), RAPPORT_TEXT("" RAPPORT_REASONS(RAPPORT_JSON_REASON)));
  rapport_put_text(RAPPORT_TEXT(RAPPORT_JSON_END));
  return (rapport_u64)(rapport_u32)rapport_manifest << 32 | rapport_manifest_size;
}

#endif

RAPPORT_EXPORT(rapport_abi_1) void rapport_export_abi(void) {}

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
  return !(s->magic == RAPPORT_STATIC_MAGIC && s->version == RAPPORT_ABI &&
           RAPPORT_COUNTS(s->parameters == RAPPORT_PARAMETER_COUNT && s->offer_columns == RAPPORT_OFFER_COUNT &&
                          s->channel_columns == RAPPORT_CHANNEL_COUNT));
}

RAPPORT_EXPORT(rapport_rank) rapport_u64 rapport_export_rank(rapport_u32 size) {
  char *block = rapport_arena_at;
  const struct rapport_static *s = (const struct rapport_static *)block;
  char *b = block + s->frame_at;
  const struct rapport_frame *f = (const struct rapport_frame *)b;
  if (f->magic != RAPPORT_FRAME_MAGIC || f->version != RAPPORT_ABI || f->size != size ||
      !RAPPORT_COUNTS(f->profile == RAPPORT_PROFILE_COUNT && f->columns == RAPPORT_COLUMN_COUNT &&
                      !f->chance_at == !RAPPORT_SAYS_CHANCES))
    return 2;
  struct rapport_decision d = {
      .fixed = s,
      .frame = f,
      .n = f->candidates,
      .now = f->now,
      .index = (const rapport_u32 *)(b + f->index_at),
      .score = (double *)(b + f->score_at),
      .reason = (rapport_u32 *)(b + f->reason_at),
      .veto = (rapport_u64 *)(b + f->veto_at),
      .chances = (double *)(b + f->chance_at),
      .random = f->seed,
  };
  d.random = rapport_split(&d.random);
  rank(&d);
  return (rapport_u64)f->candidates << 32;
}

/* What compilers may call though nobody wrote it. */
#define RAPPORT_LIBRARY(name) __attribute__((weak, no_builtin(#name)))

RAPPORT_LIBRARY(memcpy) void *memcpy(void *restrict to, const void *restrict from, __SIZE_TYPE__ size) {
  for (__SIZE_TYPE__ i = 0; i < size; i++) ((char *)to)[i] = ((const char *)from)[i];
  return to;
}

RAPPORT_LIBRARY(memmove) void *memmove(void *to, const void *from, __SIZE_TYPE__ size) {
  if ((char *)to <= (const char *)from) {
    for (__SIZE_TYPE__ i = 0; i < size; i++) ((char *)to)[i] = ((const char *)from)[i];
  } else {
    while (size--) ((char *)to)[size] = ((const char *)from)[size];
  }
  return to;
}

RAPPORT_LIBRARY(memset) void *memset(void *to, int byte, __SIZE_TYPE__ size) {
  for (__SIZE_TYPE__ i = 0; i < size; i++) ((char *)to)[i] = (char)byte;
  return to;
}

RAPPORT_LIBRARY(memcmp) int memcmp(const void *a, const void *b, __SIZE_TYPE__ size) {
  const unsigned char *x = a, *y = b;
  for (__SIZE_TYPE__ i = 0; i < size; i++)
    if (x[i] != y[i]) return x[i] - y[i];
  return 0;
}

#endif
