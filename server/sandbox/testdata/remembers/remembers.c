/*
 * remembers: a strategy that reads one of everything and tries to carry something
 * from call to call: in static memory, in its own constants, on the stack below
 * its frame, behind the end of its frame, and in a heap of its own. Its scores
 * depend on all of it. The tests of server/sandbox say what must come of that;
 * remembers.ts is the same in AssemblyScript.
 */
#define RAPPORT_NAME "remembers"
#define RAPPORT_VERSION "1"
#define RAPPORT_PROFILE(X)                  \
  X(number, arpu, "value.arpu")             \
  X(flag, heavy, "tag.high_traffic")        \
  X(text, customer_type, "general.customer_type") \
  X(time, joined, "general.customer_since")
#define RAPPORT_OFFER(X)    \
  X(number, price, "price") \
  X(flag, data, "data")     \
  X(text, kind, "kind")
#define RAPPORT_CHANNEL(X) X(number, cost, "cost")
#define RAPPORT_CANDIDATE(X)  \
  X(propensity, "propensity") \
  X(value, "value")           \
  X(weight, "weight")         \
  X(lever, "lever")
#define RAPPORT_REASONS(X) X(STEP_UP) X(DATA_FAN) X(TOO_DEAR)
#include "../../../../sdk/c/rapport.h"

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
static double remember(struct rapport_decision *d, rapport_u32 hash) {
  calls += 1;
  ring[d->n & 63] ^= d->frame->seed;
  double sum = calls;
  for (int i = 0; i < 64; i++) sum += (double)(ring[i] >> 40);
  *(volatile rapport_u32 *)&constant += 1;
  sum += constant;
  if (used < 512) {
    nodes[used].next = list, nodes[used].hash = hash;
    list = &nodes[used++];
  }
  for (struct node *at = list; at; at = at->next) sum += at->hash % 1000;
  sum += residue(d->frame->seed) % 1000;
  /* A longer frame than this one has left its end where the host filled none. */
  const rapport_u64 *behind = (const rapport_u64 *)((const char *)d->frame + d->frame->size + 64);
  const rapport_u64 *end = (const rapport_u64 *)((const char *)d->frame + d->fixed->frame_capacity);
  for (; behind < end; behind++) sum += (double)(*behind >> 44);
  return sum;
}

static void rank(struct rapport_decision *d) {
  const struct rapport_text none = RAPPORT_TEXT("");
  rapport_u32 hash = 5381;
  struct rapport_text segment = rapport_text_or(d, customer_type, RAPPORT_TEXT("nobody"));
  for (rapport_u32 i = 0; i < segment.size; i++) hash = hash * 33 + (unsigned char)segment.data[i];
  int trap = rapport_equal(segment, RAPPORT_TEXT("trap"));

  double base = remember(d, hash), spend = rapport_number_or(d, arpu, 20);
  int fan = rapport_flag_or(d, heavy, 0);
  if (rapport_known(d, heavy)) base += fan ? 1000 : 2000;
  if (rapport_known(d, joined)) base += (double)((d->now - rapport_time_or(d, joined, 0)) / 86400000000);
  for (rapport_u32 i = 0; i < d->n; i++) {
    double score = rapport_of(d, propensity, i) * rapport_of(d, value, i) * rapport_of(d, weight, i) * rapport_of(d, lever, i);
    score += base / (1 + d->index[i] % 3);
    score += rapport_offer_text_or(d, kind, i, none).size;
    score -= rapport_channel_number_or(d, cost, i, 0);
    if (rapport_offer_known(d, price, i)) {
      double dear = rapport_offer_number_or(d, price, i, 0);
      if (dear > 4 * spend) {
        rapport_veto(d, i);
        rapport_because(d, i, TOO_DEAR);
      } else if (dear > spend) {
        score += __builtin_sqrt(dear - spend);
        rapport_because(d, i, STEP_UP);
      }
    }
    if (rapport_offer_flag_or(d, data, i, 0) && fan) {
      score *= 1.5;
      rapport_because(d, i, DATA_FAN);
    }
    rapport_score(d, i, score);
    if (trap && i == d->n / 2) __builtin_trap();
  }
}
