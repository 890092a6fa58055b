/*
 * remembers: a strategy that reads one of everything and tries to carry something
 * from call to call: in static memory, in its own constants, on the stack below
 * its frame, behind the end of its frame, and in a heap of its own. Its scores
 * depend on all of it. The tests of server/sandbox say what must come of that;
 * remembers.ts is the same in AssemblyScript.
 */
#include "../../../../sdk/c/rapport.h"

enum { ARPU, HEAVY, SEGMENT, JOINED };
enum { PRICE, DATA, KIND };
enum { COST };
enum { PROPENSITY, VALUE, WEIGHT, LEVER };
enum { STEP = 1, FAN, DEAR };

RAPPORT_MANIFEST(
    "{\"abi\":1,\"name\":\"remembers\",\"version\":\"1\",\"description\":\"\","
    "\"profile\":[{\"name\":\"value.arpu\",\"type\":\"number\"},{\"name\":\"tag.high_traffic\",\"type\":\"flag\"},"
    "{\"name\":\"general.customer_type\",\"type\":\"text\"},{\"name\":\"general.customer_since\",\"type\":\"time\"}],"
    "\"offer\":[{\"name\":\"price\",\"type\":\"number\"},{\"name\":\"data\",\"type\":\"flag\"},{\"name\":\"kind\",\"type\":\"text\"}],"
    "\"channel\":[{\"name\":\"cost\",\"type\":\"number\"}],"
    "\"candidate\":[\"propensity\",\"value\",\"weight\",\"lever\"],"
    "\"parameters\":[],"
    "\"reasons\":[\"STEP_UP\",\"DATA_FAN\",\"TOO_DEAR\"]}")

/* What a call would leave to the next if it could. */
static double calls;
static rapport_u64 ring[64];
static const volatile rapport_u32 constant = 7;
static struct node {
  struct node *next;
  rapport_u32 hash;
} nodes[512], *list;
static rapport_u32 used;

/* The stack as an earlier call left it. */
static __attribute__((noinline)) rapport_u32 residue(rapport_u64 seed) {
  volatile rapport_u32 words[64];
  rapport_u32 sum = 0;
  for (int i = 0; i < 64; i++) sum += words[i];
  for (int i = 0; i < 64; i++) words[i] = (rapport_u32)(seed >> (i & 31));
  return sum;
}

/* What is left of earlier calls, as a number. */
static double remember(const struct rapport_call *c, rapport_u32 hash) {
  calls += 1;
  ring[c->n & 63] ^= c->frame->seed;
  double sum = calls;
  for (int i = 0; i < 64; i++) sum += (double)(ring[i] >> 40);
  *(volatile rapport_u32 *)&constant += 1;
  sum += constant;
  if (used < 512) {
    nodes[used].next = list, nodes[used].hash = hash;
    list = &nodes[used++];
  }
  for (struct node *at = list; at; at = at->next) sum += at->hash % 1000;
  sum += residue(c->frame->seed) % 1000;
  /* A longer frame than this one has left its end where the host filled none. */
  const rapport_u64 *behind = (const rapport_u64 *)((const char *)c->frame + c->frame->size + 64);
  const rapport_u64 *end = (const rapport_u64 *)((const char *)c->frame + c->fixed->frame_capacity);
  for (; behind < end; behind++) sum += (double)(*behind >> 44);
  return sum;
}

static void rank(const struct rapport_call *c) {
  rapport_u64 cell;
  rapport_u32 hash = 5381;
  struct rapport_text segment = {"nobody", 6};
  if (rapport_profile_cell(c, SEGMENT, &cell)) segment = rapport_profile_text(c, cell);
  for (rapport_u32 i = 0; i < segment.size; i++) hash = hash * 33 + (unsigned char)segment.data[i];
  int trap = segment.size == 4 && !__builtin_memcmp(segment.data, "trap", 4);

  double base = remember(c, hash), arpu = 20;
  int heavy = 0;
  if (rapport_profile_cell(c, HEAVY, &cell)) base += (heavy = cell != 0) ? 1000 : 2000;
  if (rapport_profile_cell(c, JOINED, &cell)) base += (double)((c->frame->now - (rapport_i64)cell) / 86400000000);
  if (rapport_profile_cell(c, ARPU, &cell)) arpu = rapport_number(cell);
  for (rapport_u32 i = 0; i < c->n; i++) {
    double score = rapport_column(c, PROPENSITY)[i] * rapport_column(c, VALUE)[i] * rapport_column(c, WEIGHT)[i] * rapport_column(c, LEVER)[i];
    score += base / (1 + c->index[i] % 3);
    if (rapport_offer_cell(c, KIND, i, &cell)) score += rapport_static_text(c, cell).size;
    if (rapport_channel_cell(c, COST, i, &cell)) score -= rapport_number(cell);
    if (rapport_offer_cell(c, PRICE, i, &cell)) {
      double price = rapport_number(cell);
      if (price > 4 * arpu) {
        rapport_set_veto(c, i);
        c->reason[i] = DEAR;
      } else if (price > arpu) {
        score += __builtin_sqrt(price - arpu);
        c->reason[i] = STEP;
      }
    }
    if (rapport_offer_cell(c, DATA, i, &cell) && cell && heavy) {
      score *= 1.5;
      c->reason[i] = FAN;
    }
    c->score[i] = score;
    if (trap && i == c->n / 2) __builtin_trap();
  }
}
