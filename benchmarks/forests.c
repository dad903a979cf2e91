/* Times a forest from C: rows of doubles in a file, in calls of one distinct row and in one of all of them. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "forest.h"

enum { BLOCK = 100 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

static double median(double *times, int count)
{
    qsort(times, (size_t)count, sizeof *times, by_size);
    return times[count / 2];
}

int main(int count, char **given)
{
    int rows = count == 4 ? atoi(given[2]) : 0, rounds = count == 4 ? atoi(given[3]) : 0;
    if (rows < BLOCK || rounds < 1) return fputs("FILE ROWS ROUNDS\n", stderr), 2;
    strop_input *x = malloc(sizeof *x * (size_t)rows * STROP_FEATURES);
    strop_result *out = malloc(sizeof *out * (size_t)rows * STROP_RESULTS);
    double *one = malloc(sizeof *one * (size_t)rounds), *all = malloc(sizeof *all * (size_t)rounds);
    FILE *file = fopen(given[1], "rb");
    if (!x || !out || !one || !all || !file) return perror(given[1]), 1;
    for (size_t i = 0; i < (size_t)rows * STROP_FEATURES; i++) {
        double value;
        if (fread(&value, sizeof value, 1, file) != 1) return perror(given[1]), 1;
        x[i] = (strop_input)value;
    }
    for (int round = 0; round < rounds; round++) {
        double start = now();
        for (int k = 0; k < BLOCK; k++) strop_predict(x + (size_t)((round * BLOCK + k) % rows) * STROP_FEATURES, 1, out);
        one[round] = (now() - start) / BLOCK;
        start = now();
        strop_predict(x, rows, out);
        all[round] = now() - start;
    }
    printf("%.9g %.9g\n", median(one, rounds), median(all, rounds));
    return 0;
}
