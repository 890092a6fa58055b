/*
 * reads: reads one of everything through rapport.h. The tests of server/sandbox
 * build it and check what it makes of it.
 */
#include "../../../../sdk/c/rapport.h"

enum { ARPU, HEAVY, SEGMENT, JOINED };
enum { PRICE, DATA, KIND };
enum { COST };
enum { LEVER, VALUE };
enum { OFFSET };
enum { READ = 1 };

RAPPORT_MANIFEST(
    "{\"abi\":1,\"name\":\"reads\",\"version\":\"1\",\"description\":\"\","
    "\"profile\":[{\"name\":\"value.arpu\",\"type\":\"number\"},{\"name\":\"tag.high_traffic\",\"type\":\"flag\"},"
    "{\"name\":\"general.customer_type\",\"type\":\"text\"},{\"name\":\"general.customer_since\",\"type\":\"time\"}],"
    "\"offer\":[{\"name\":\"price\",\"type\":\"number\"},{\"name\":\"data\",\"type\":\"flag\"},{\"name\":\"kind\",\"type\":\"text\"}],"
    "\"channel\":[{\"name\":\"cost\",\"type\":\"number\"}],"
    "\"candidate\":[\"lever\",\"value\"],"
    "\"parameters\":[{\"name\":\"offset\",\"default\":0,\"min\":-1000,\"max\":1000}],"
    "\"reasons\":[\"READ\"]}")

/* The sum of a text's bytes. */
static double sum(struct rapport_text t) {
  double s = 0;
  for (rapport_u32 i = 0; i < t.size; i++) s += (unsigned char)t.data[i];
  return s;
}

static void rank(const struct rapport_call *c) {
  rapport_u64 cell;
  double of_customer = c->parameters[OFFSET];
  if (rapport_profile_cell(c, ARPU, &cell)) of_customer += rapport_number(cell);
  if (rapport_profile_cell(c, HEAVY, &cell)) of_customer += cell ? 1000 : 2000;
  if (rapport_profile_cell(c, SEGMENT, &cell)) of_customer += sum(rapport_profile_text(c, cell));
  if (rapport_profile_cell(c, JOINED, &cell)) of_customer += (double)(c->frame->now - (rapport_i64)cell);
  for (rapport_u32 i = 0; i < c->n; i++) {
    double score = of_customer + rapport_column(c, LEVER)[i] * rapport_column(c, VALUE)[i];
    if (rapport_offer_cell(c, PRICE, i, &cell)) score += rapport_number(cell);
    if (rapport_offer_cell(c, DATA, i, &cell)) score += cell ? 10000 : 20000;
    if (rapport_offer_cell(c, KIND, i, &cell)) score += sum(rapport_static_text(c, cell));
    if (rapport_channel_cell(c, COST, i, &cell)) score -= rapport_number(cell);
    c->score[i] = score;
    c->reason[i] = READ;
    if (i % 3 == 1) rapport_set_veto(c, i);
  }
  rapport_log(RAPPORT_LOG_WARN, "all is read", 11);
}
