// The strategy as a plugin of Extism: scores are propensity × value × weight × lever.
//
//   clang --target=wasm32 -O2 -nostdlib -Wl,--no-entry -Wl,--strip-all -o rank.wasm rank.c
//
// Input and output lie in the host's memory, which a plugin reaches by calls, eight bytes at
// a time: that is how Extism 1 works, whatever the language.
#define IMPORT(name) __attribute__((import_module("extism:host/env"), import_name(name)))

typedef unsigned long long u64;

IMPORT("input_length") u64 input_length(void);
IMPORT("input_load_u64") u64 input_load_u64(u64 offset);
IMPORT("alloc") u64 alloc(u64 bytes);
IMPORT("store_u64") void store_u64(u64 at, u64 value);
IMPORT("output_set") void output_set(u64 at, u64 bytes);

static double load(u64 offset) {
  union { u64 bits; double value; } u = {input_load_u64(offset)};
  return u.value;
}

__attribute__((export_name("rank"))) int rank(void) {
  u64 n = input_length() / 32;
  u64 out = alloc(8 * n);
  for (u64 i = 0; i < n; i++) {
    union { double value; u64 bits; } score;
    score.value = load(32 * i) * load(32 * i + 8) * load(32 * i + 16) * load(32 * i + 24);
    store_u64(out + 8 * i, score.bits);
  }
  output_set(out, 8 * n);
  return 0;
}
