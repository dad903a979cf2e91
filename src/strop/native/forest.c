/* A decision forest as a library. tables.h and tables.bin hold its trees; forest.h says how to call it. To build it:

     cc -O3 -fPIC -shared -fvisibility=hidden -o model.so forest.c -lm

   Three ways through the trees give the same sums, bit for bit:

   steps   A few rows. All different conditions are evaluated; then some trees at a time are gone down without a branch,
           a few steps, and again those of them that have not come to a leaf.
   slices  Many rows. One bit a row: all different conditions are evaluated for a block of rows, and a tree is a chain of
           ANDs over whole blocks; the bits of the leaf's number come out by ORs.
   walk    From the root to the leaf, for trees too large for either. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "forest.h"
#include "tables.h"

#define TINY 1.0000000180025095e-35 /* no farther from 0 is missing, where zero stands for missing: 1e-35f */
#define MISSING_LEFT 1
#define ZERO_MISSING 2
#define SUBSET 4

__asm__(
#ifdef __APPLE__
    ".const\n.globl _strop_tables\n.private_extern _strop_tables\n.balign 64\n_strop_tables:\n.incbin \"" TABLES "\"\n.text\n"
#else
    ".section .rodata\n.globl strop_tables\n.hidden strop_tables\n.balign 64\nstrop_tables:\n.incbin \"" TABLES "\"\n.text\n"
#endif
);
extern const unsigned char strop_tables[] __attribute__((visibility("hidden")));
#define TABLE(type, at) ((const type *)(strop_tables + (at)))

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && __GNUC__ >= 12
#define FASTEST __attribute__((target_clones("arch=x86-64-v4", "avx2", "default"))) /* the first is AVX-512 */
#elif defined(__x86_64__) && defined(__gnu_linux__)
#define FASTEST __attribute__((target_clones("avx2", "default")))
#else
#define FASTEST
#endif
#define INLINE static inline __attribute__((always_inline))

typedef strop_input input;
typedef strop_result real;
#if GRID
typedef int32_t sum; /* of multiples of GRID_STEP, which is exact */
typedef INTEGER value;
#else
typedef real sum;
typedef real value;
#endif

#define BASE TABLE(double, BASE_AT)       /* [OUTPUTS] */
#define VALUES TABLE(value, VALUES_AT)      /* [leaves, WIDTH] */
#define FIRST TABLE(uint32_t, FIRST_AT)   /* [TREES], the first leaf of each */
#define OUTPUT TABLE(uint16_t, OUTPUT_AT) /* [TREES] */

INLINE int is_missing(input x, int flags)
{
    return x != x || ((flags & ZERO_MISSING) && fabs((double)x) <= TINY);
}

INLINE int is_member(input x, uint32_t at, uint32_t size)
{
    if (!(x > -1 && x < 4294967296.0)) return 0;
    uint32_t category = (uint32_t)x; /* towards 0 */
    return category < size && TABLE(uint32_t, SUBSETS_AT)[at + category / 32] >> (category % 32) & 1;
}

INLINE void add(sum *total, uint32_t tree, uint32_t leaf)
{
    const value *of = VALUES + (size_t)(FIRST[tree] + leaf) * WIDTH;
#if OUTPUTS == 1
    *total += *of;
#elif WIDTH == 1
    total[OUTPUT[tree]] += *of;
#else
    for (int k = 0; k < WIDTH; k++) total[k] += of[k];
#endif
}

INLINE void begin(sum *total)
{
    for (int k = 0; k < OUTPUTS; k++) total[k] = GRID ? 0 : (sum)BASE[k];
}

/* What comes out of the sums of one row. */
INLINE void finish(const sum *total, strop_result *out)
{
    real s[OUTPUTS];
    for (int k = 0; k < OUTPUTS; k++) s[k] = (GRID ? (real)(BASE[k] + GRID_STEP * total[k]) : (real)total[k]) / (real)DIVISOR;
#if LINK == 0 || LINK == 8 /* identity, probabilities */
    for (int k = 0; k < OUTPUTS; k++) out[k] = s[k];
#elif LINK == 1 /* sigmoid */
    for (int k = 0; k < OUTPUTS; k++) out[k] = 1 / (1 + EXP(-(real)SCALE * s[k]));
#elif LINK == 2 /* sigmoid of two */
    out[1] = 1 / (1 + EXP(-(real)SCALE * s[0]));
    out[0] = 1 - out[1];
#elif LINK == 3 /* softmax */
    real most = s[0], all = 0;
    for (int k = 1; k < OUTPUTS; k++) most = s[k] > most ? s[k] : most;
    for (int k = 0; k < OUTPUTS; k++) all += s[k] = EXP(s[k] - most);
    for (int k = 0; k < OUTPUTS; k++) out[k] = s[k] / all;
#elif LINK == 4 /* exponential */
    for (int k = 0; k < OUTPUTS; k++) out[k] = EXP(s[k]);
#elif LINK == 5 /* signed square */
    for (int k = 0; k < OUTPUTS; k++) out[k] = s[k] < 0 ? -s[k] * s[k] : s[k] * s[k];
#elif LINK == 6 /* log of one and exponential */
    for (int k = 0; k < OUTPUTS; k++) out[k] = LOG1P(EXP(s[k]));
#elif LINK == 7 /* shares */
    real all = 0;
    for (int k = 0; k < OUTPUTS; k++) all += s[k];
    for (int k = 0; k < OUTPUTS; k++) out[k] = s[k] / all;
#endif
}

#if STEPS || SLICES
/* Conditions come in groups: all thresholds of one feature that treat what is missing alike, ascending, or one subset. */
#define G_FEATURE TABLE(uint32_t, G_FEATURE_AT)
#define G_FLAGS TABLE(uint8_t, G_FLAGS_AT)
#define G_FIRST TABLE(uint32_t, G_FIRST_AT)     /* [GROUPS + 1], its first condition */
#define G_SUBSET TABLE(uint32_t, G_SUBSET_AT)   /* where the bits of its subset begin */
#define G_SIZE TABLE(uint32_t, G_SIZE_AT)       /* how many they are */
#define THRESHOLD TABLE(input, THRESHOLD_AT)    /* [CONDITIONS] */
#endif

#if STEPS
/* The right child follows the left. A leaf leads to itself: its condition, CONDITIONS + its number, is never over. */
typedef struct { uint16_t condition, left; } node; /* left: nodes from here to the left child */
#define NODES TABLE(node, NODES_AT)
#define ROOT TABLE(uint32_t, ROOT_AT) /* [TREES], nodes */
#define ABREAST 8                     /* trees gone down at a time: while one waits for memory, the others do not */
#define AT_ONCE 512                   /* trees whose leaves are added up before the next are looked at */

/* Of each condition, how far its right child is from its left: to add where a value is over it, else 0. */
INLINE void compare(const input *x, size_t *over)
{
    for (uint32_t g = 0; g < GROUPS; g++) {
        input v = x[G_FEATURE[g]];
        const input *threshold = THRESHOLD + G_FIRST[g];
        size_t *to = over + G_FIRST[g], size = G_FIRST[g + 1] - G_FIRST[g], right = sizeof(node);
        int flags = G_FLAGS[g];
        if (is_missing(v, flags)) for (size_t c = 0; c < size; c++) to[c] = flags & MISSING_LEFT ? 0 : right;
        else if (flags & SUBSET) to[0] = is_member(v, G_SUBSET[g], G_SIZE[g]) ? 0 : right;
        else for (size_t c = 0; c < size; c++) to[c] = threshold[c] < v ? right : 0;
    }
}

FASTEST static void few(const input *x, strop_result *out)
{
    static const node nowhere = {CONDITIONS, 0};
    size_t over[CONDITIONS + MOST_LEAVES];
    memset(over + CONDITIONS, 0, sizeof(size_t) * MOST_LEAVES);
    compare(x, over);
    sum s[OUTPUTS];
    begin(s);
    for (uint32_t t = 0; t < TREES; t += AT_ONCE) {
        const node *at[AT_ONCE + 1];
        uint32_t on_way[AT_ONCE + ABREAST], count = TREES - t < AT_ONCE ? TREES - t : AT_ONCE, going = count;
        for (uint32_t k = 0; k < count; k++) at[k] = NODES + ROOT[t + k], on_way[k] = k;
        at[AT_ONCE] = &nowhere;
        while (going) {
            uint32_t still = 0;
            for (uint32_t k = going; k % ABREAST; k++) on_way[k] = AT_ONCE;
            for (uint32_t k = 0; k < going; k += ABREAST) {
                const node *some[ABREAST];
                for (int i = 0; i < ABREAST; i++) some[i] = at[on_way[k + i]];
                for (int step = 0; step < STRIDE; step++)
                    for (int i = 0; i < ABREAST; i++)
                        some[i] = (const node *)((const char *)(some[i] + some[i]->left) + over[some[i]->condition]);
                for (int i = 0; i < ABREAST; i++) {
                    uint32_t tree = on_way[k + i];
                    at[tree] = some[i];
                    on_way[still] = tree;
                    still += some[i]->condition < CONDITIONS;
                }
            }
            going = still;
        }
        for (uint32_t k = 0; k < count; k++) add(s, t + k, at[k]->condition - CONDITIONS);
    }
    finish(s, out);
}
#endif

#if SLICES
#define BITS (ROWS / 32)
#define TOGETHER 8 /* trees whose leaves are added in one pass over the rows */
#define S_FIRST TABLE(uint32_t, S_FIRST_AT)     /* [TREES + 1], its first split; parents before children */
#define S_CONDITION TABLE(CONDITION_NUMBER, S_CONDITION_AT)
#define S_SLOT TABLE(SLOT_NUMBER, S_SLOT_AT)       /* where the split's rows are: 0, or 2 i + 1 and 2 i + 2 of split i */
#define S_PLANES TABLE(uint8_t, S_PLANES_AT)    /* [TREES], bits of a leaf's number */
#define S_PLANE TABLE(uint32_t, S_PLANE_AT)     /* [TREES * 8 + 1], the first of the slots whose rows have this bit */
#define S_MEMBER TABLE(SLOT_NUMBER, S_MEMBER_AT)

#ifdef __clang__
#define SHUFFLE(v, place) __builtin_shufflevector(v, v, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, \
                                                  2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3)
#else
#define SHUFFLE(v, place) __builtin_shuffle(v, place)
#endif
typedef uint64_t lanes __attribute__((vector_size(64)));
typedef uint8_t bytes __attribute__((vector_size(32)));
typedef uint32_t words __attribute__((vector_size(32)));
#define LANES (ROWS / 512)
typedef struct { lanes part[LANES]; } block; /* a bit for each row */

#if INPUT_BYTES == 8
typedef double values __attribute__((vector_size(32)));
typedef uint64_t mask __attribute__((vector_size(32)));
#else
typedef float values __attribute__((vector_size(32)));
typedef uint32_t mask __attribute__((vector_size(32)));
#endif
#define PER (32 / INPUT_BYTES) /* values in a vector */

/* The bits of 32 rows that go left at a threshold; what is missing is NaN. */
INLINE uint32_t at_most(const input *column, input threshold, int missing_left)
{
    values t;
    mask found = {0}, bit;
    for (int k = 0; k < PER; k++) t[k] = threshold, bit[k] = 1u << k;
    for (int k = 0; k < 32 / PER; k++) {
        values x = *(const values *)(column + k * PER);
        found |= (missing_left ? ~(mask)(x > t) : (mask)(x <= t)) & (bit << (k * PER));
    }
    uint32_t all = 0;
    for (int k = 0; k < PER; k++) all |= (uint32_t)found[k];
    return all;
}

INLINE void evaluate(const input *x, block *condition)
{
    input column[ROWS] __attribute__((aligned(64)));
    for (uint32_t g = 0; g < GROUPS; g++) {
        int flags = G_FLAGS[g];
        for (int r = 0; r < ROWS; r++) column[r] = x[(size_t)r * FEATURES + G_FEATURE[g]];
        if (flags & SUBSET) {
            uint32_t *out = (uint32_t *)&condition[G_FIRST[g]];
            memset(out, 0, sizeof(block));
            for (int r = 0; r < ROWS; r++) {
                int goes = is_missing(column[r], flags) ? flags & MISSING_LEFT : is_member(column[r], G_SUBSET[g], G_SIZE[g]);
                out[r / 32] |= (uint32_t)goes << (r % 32);
            }
            continue;
        }
        if (flags & ZERO_MISSING)
            for (int r = 0; r < ROWS; r++) column[r] = fabs((double)column[r]) <= TINY ? (input)NAN : column[r];
        for (uint32_t c = G_FIRST[g]; c < G_FIRST[g + 1]; c++) {
            uint32_t *out = (uint32_t *)&condition[c];
            if (flags & MISSING_LEFT) for (int k = 0; k < BITS; k++) out[k] = at_most(column + 32 * k, THRESHOLD[c], 1);
            else for (int k = 0; k < BITS; k++) out[k] = at_most(column + 32 * k, THRESHOLD[c], 0);
        }
    }
}

/* Numbers of rows from the planes of their bits. */
INLINE void spread(const block *plane, int planes, uint8_t *number)
{
    const bytes place = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3};
    const bytes bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128,
                       1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    for (int k = 0; k < BITS; k++) {
        bytes all = {0};
        for (int j = 0; j < planes; j++) {
            uint32_t rows = ((const uint32_t *)&plane[j])[k];
            bytes one = (bytes)(words){rows, rows, rows, rows, rows, rows, rows, rows};
            one = SHUFFLE(one, place);
            all |= (bytes)((one & bit) == bit) & (uint8_t)(1 << j);
        }
        memcpy(number + 32 * k, &all, 32);
    }
}

/* slots: room for MOST_SLOTS blocks. */
INLINE void number_leaves(uint32_t t, const block *condition, block *slots, uint8_t *number)
{
    uint32_t splits = S_FIRST[t + 1] - S_FIRST[t];
    memset(&slots[0], 0xff, sizeof(block));
    for (uint32_t i = 0; i < splits; i++)
        for (int k = 0; k < LANES; k++) {
            lanes here = slots[S_SLOT[S_FIRST[t] + i]].part[k];
            lanes goes = here & condition[S_CONDITION[S_FIRST[t] + i]].part[k];
            slots[2 * i + 1].part[k] = goes;
            slots[2 * i + 2].part[k] = here ^ goes;
        }
    block plane[8];
    for (int j = 0; j < S_PLANES[t]; j++)
        for (int k = 0; k < LANES; k++) {
            lanes all = {0};
            for (uint32_t i = S_PLANE[8 * t + j]; i < S_PLANE[8 * t + j + 1]; i++) all |= slots[S_MEMBER[i]].part[k];
            plane[j].part[k] = all;
        }
    spread(plane, S_PLANES[t], number);
}

FASTEST static void many(const input *x, sum *total, block *condition, block *slots)
{
    uint8_t number[TOGETHER][ROWS] __attribute__((aligned(64)));
    evaluate(x, condition);
    for (int r = 0; r < ROWS; r++) begin(total + (size_t)r * OUTPUTS);
    for (uint32_t t = 0; t < TREES; t += TOGETHER) {
        uint32_t count = TREES - t < TOGETHER ? TREES - t : TOGETHER;
        for (uint32_t k = 0; k < count; k++) number_leaves(t + k, condition, slots, number[k]);
#if OUTPUTS == 1
        if (count == TOGETHER) {
            const value *of[TOGETHER];
            for (int k = 0; k < TOGETHER; k++) of[k] = VALUES + FIRST[t + k];
            for (int r = 0; r < ROWS; r++) {
                sum s = total[r];
                for (int k = 0; k < TOGETHER; k++) s += of[k][number[k][r]];
                total[r] = s;
            }
            continue;
        }
#endif
        for (int r = 0; r < ROWS; r++)
            for (uint32_t k = 0; k < count; k++) add(total + (size_t)r * OUTPUTS, t + k, number[k][r]);
    }
}
#endif

#if WALK
typedef struct {
    input threshold;
    uint32_t feature_and_flags; /* feature << 3 | flags; of a leaf, all bits */
    uint32_t left, right;       /* splits; of a leaf: its number */
    uint32_t subset, size;
} split;
#define SPLITS TABLE(split, SPLITS_AT)
#define ROOT TABLE(uint32_t, ROOT_AT)
#define LEAF 0xffffffffu
#define CHUNK (OUTPUTS < 64 ? 64 / OUTPUTS : 1) /* rows whose sums lie on the stack */

INLINE uint32_t leaf_of(uint32_t tree, const input *x)
{
    const split *at = SPLITS + ROOT[tree];
    while (at->feature_and_flags != LEAF) {
        int flags = at->feature_and_flags & 7, goes;
        input v = x[at->feature_and_flags >> 3];
        if (is_missing(v, flags)) goes = flags & MISSING_LEFT;
        else if (flags & SUBSET) goes = is_member(v, at->subset, at->size);
        else goes = v <= at->threshold;
        at = SPLITS + (goes ? at->left : at->right);
    }
    return at->left;
}

static void walk(const input *x, int64_t rows, sum *total)
{
    for (int64_t r = 0; r < rows; r++) begin(total + r * OUTPUTS);
    for (uint32_t t = 0; t < TREES; t++) /* one tree after the other: it stays in the cache */
        for (int64_t r = 0; r < rows; r++) add(total + r * OUTPUTS, t, leaf_of(t, x + r * FEATURES));
}
#endif

STROP_API void strop_predict(const strop_input *x, int64_t rows, strop_result *out)
{
    int64_t row = 0;
#if SLICES
    sum *total = NULL;
    block *memory = NULL;
    if (rows >= ENOUGH) {
        total = malloc(sizeof(sum) * ROWS * OUTPUTS + sizeof(input) * ROWS * FEATURES);
        if (posix_memalign((void **)&memory, 64, sizeof(block) * (CONDITIONS + MOST_SLOTS))) memory = NULL;
    }
    while (total && memory && rows - row >= ENOUGH) {
        int64_t count = rows - row < ROWS ? rows - row : ROWS;
        const input *from = x + row * FEATURES;
        if (count < ROWS) {
            input *padded = (input *)(total + ROWS * OUTPUTS);
            memset(padded, 0, sizeof(input) * ROWS * FEATURES);
            from = memcpy(padded, from, sizeof(input) * (size_t)count * FEATURES);
        }
        many(from, total, memory, memory + CONDITIONS);
        for (int64_t r = 0; r < count; r++) finish(total + r * OUTPUTS, out + (row + r) * RESULTS);
        row += count;
    }
    free(memory);
    free(total);
#endif
#if STEPS
    for (; row < rows; row++) few(x + row * FEATURES, out + row * RESULTS);
#else
    while (row < rows) {
        sum s[CHUNK * OUTPUTS];
        int64_t count = rows - row < CHUNK ? rows - row : CHUNK;
        walk(x + row * FEATURES, count, s);
        for (int64_t r = 0; r < count; r++) finish(s + r * OUTPUTS, out + (row + r) * RESULTS);
        row += count;
    }
#endif
}

STROP_API int strop_features(void) { return FEATURES; }
STROP_API int strop_results(void) { return RESULTS; }
STROP_API int strop_input_bytes(void) { return sizeof(strop_input); }
STROP_API int strop_result_bytes(void) { return sizeof(strop_result); }
