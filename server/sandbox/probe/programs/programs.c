// Programs that do one kind of work each, so that what metering costs can be
// measured by kind. PAD moves the functions in memory: how a loop lies on cache
// lines makes as much difference as metering does, so they are measured in several
// places. See probe.go.
typedef unsigned u32;
typedef double f64;

#define EXPORT(name) __attribute__((export_name(name)))
#define APART __attribute__((noinline))

EXPORT("pad") int pad(int n) {
	int s = n;
#define STEP(k) s = s * (k * 7 + 3) + k * 1000; s ^= s >> (k % 7 + 1);
#if PAD > 0
	STEP(1) STEP(2)
#endif
#if PAD > 1
	STEP(3) STEP(4)
#endif
#if PAD > 2
	STEP(5) STEP(6)
#endif
	return s;
}

// A chain of multiplications: a loop whose iterations wait for each other.
EXPORT("chain") int chain(int n) {
	int s = 0;
	for (int i = 0; i < n; i++) {
		s = s * 31 + i;
		s ^= s >> 3;
	}
	return s;
}

// A scalar product: what strategies do most.
static f64 a[2048], b[2048];
EXPORT("product") int product(int n) {
	f64 s = 0;
	for (int i = 0; i < n; i++) {
		s += a[i] * b[i];
		a[i] = s * 0.5 + 1;
	}
	return (int)s;
}

// Insertion sort: the shortest loop that there is, with branches.
static int sorted[1024];
EXPORT("sort") int sort(int n) {
	u32 x = 12345;
	for (int i = 0; i < n; i++) {
		x = x * 1664525 + 1013904223;
		sorted[i] = x >> 8;
	}
	for (int i = 1; i < n; i++) {
		int v = sorted[i], j = i - 1;
		for (; j >= 0 && sorted[j] > v; j--) sorted[j + 1] = sorted[j];
		sorted[j + 1] = v;
	}
	return sorted[n / 2];
}

// Many short blocks.
EXPORT("branches") int branches(int n) {
	u32 x = 7;
	int p = 0, q = 0, r = 0;
	for (int i = 0; i < n; i++) {
		x = x * 1664525 + 1013904223;
		if (x & 0x10000) p += i;
		else if (x & 0x20000) q ^= p;
		else r += q;
		if ((x >> 20) % 3 == 0) p--;
	}
	return p + q + r;
}

// Divisions, which are slow by themselves.
EXPORT("divisions") int divisions(int n) {
	u32 s = 0;
	for (u32 i = 1; i < (u32)n; i++) {
		u32 x = i * 7919, y = 104729;
		while (y) {
			u32 t = x % y;
			x = y;
			y = t;
		}
		s += x;
	}
	return s;
}

// Short functions that call short functions.
APART static int leaf(int x, int y) { return x * y + (x >> 2); }
APART static int middle(int x, int y) { return leaf(x, y) + leaf(y, x); }
EXPORT("calls") int calls(int n) {
	int s = 1;
	for (int i = 0; i < n; i++) s = middle(s, i);
	return s;
}

// Calls of functions that do something.
APART static int digest(int x) {
	u32 h = x;
	for (int i = 0; i < 16; i++) h = (h ^ (h >> 15)) * 0x2c1b3c6d + i;
	return (int)h;
}
EXPORT("work") int work(int n) {
	int s = 1;
	for (int i = 0; i < n; i++) s += digest(s + i);
	return s;
}

// Calls through a table.
APART static int add(int x, int y) { return x + y; }
APART static int sub(int x, int y) { return x - y * 3; }
APART static int xor(int x, int y) { return x ^ y; }
APART static int mix(int x, int y) { return x * 5 + y; }
static int (*const table[])(int, int) = {add, sub, xor, mix};
EXPORT("indirect") int indirect(int n) {
	int s = 1;
	for (int i = 0; i < n; i++) s = table[(s + i) & 3](s, i);
	return s;
}

// Nothing but calls, in a recursion.
APART static int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
EXPORT("recursion") int recursion(int n) { return fib(n); }
