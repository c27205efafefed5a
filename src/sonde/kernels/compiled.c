/* The sparse training step on a CPU, in plain C, called through ctypes; sonde/kernels/compiled.py says what each function is for.
 *
 * Weights are feature-major: a feature is one contiguous row of W_enc and one of W_dec. `width` is a multiple of 16.
 * Functions work on rows (of the batch, or of weights) `first` to `last`, so that callers cut the work up; what one row
 * gives does not depend on the cut. Float sums run in 16 lanes in a fixed order, without contraction into fused multiply-adds, so
 * every variant gives the same bits. Only guesses, which are never used as values, may differ from one variant to the next.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define VNNI 1
#include <immintrin.h>
#elif defined(__AVX2__)
#include <immintrin.h>
#endif

#define LANES 16
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t integers __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int8_t bytes __attribute__((vector_size(LANES), aligned(1)));

static inline lanes load(const float *p) { return *(const lanes *)p; }
static inline void store(float *p, lanes v) { *(lanes *)p = v; }
static inline lanes all(float v) { return v - (lanes){0}; }

static inline float sum(lanes v) {
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) v[i] += v[i + half];
    return v[0];
}

static inline lanes larger(lanes a, lanes b) {
    integers first = a > b;
    return (lanes)(((integers)a & first) | ((integers)b & ~first));
}

/* Round to the nearest integer, even ones from halves: exact below 2^22. */
static inline lanes nearest(lanes v) { return (v + 12582912.0f) - 12582912.0f; }

static float largest_magnitude(const float *v, const float *factor, int64_t width) {
    lanes most = {0};
    for (int64_t i = 0; i < width; i += LANES) {
        lanes product = load(v + i) * load(factor + i);
        most = larger(larger(product, -product), most);
    }
    for (int i = 1; i < LANES; i++) most[0] = most[i] > most[0] ? most[i] : most[0];
    return most[0];
}

/* Integers in whole[width] for v * factor, scaled so that `largest` becomes `most`; returns their sum. */
static int32_t quantise(const float *v, const float *factor, int64_t width, float largest, int32_t most, int8_t *whole) {
    const float inverse = largest > 0 ? (float)most / largest : 0;
    integers total = {0};
    for (int64_t i = 0; i < width; i += LANES) {
        integers q = __builtin_convertvector(nearest(load(v + i) * load(factor + i) * inverse), integers);
        total += q;
        *(bytes *)(whole + i) = __builtin_convertvector(q, bytes);
    }
    int32_t found = 0;
    for (int i = 0; i < LANES; i++) found += total[i];
    return found;
}

static inline float dot(const float *a, const float *b, int64_t width) {
    lanes s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    int64_t i = 0;
    for (; i + 4 * LANES <= width; i += 4 * LANES) {
        s0 += load(a + i) * load(b + i);
        s1 += load(a + i + LANES) * load(b + i + LANES);
        s2 += load(a + i + 2 * LANES) * load(b + i + 2 * LANES);
        s3 += load(a + i + 3 * LANES) * load(b + i + 3 * LANES);
    }
    for (; i < width; i += LANES) s0 += load(a + i) * load(b + i);
    return sum((s0 + s1) + (s2 + s3));
}

static inline void prefetch(const float *row, int64_t width) {
    for (int64_t i = 0; i < width; i += LANES) __builtin_prefetch(row + i);
}

/* ---------------------------------------------------------------- proposals: an eight-bit product
 *
 * Both sides are scaled so that each row's largest entry is the largest integer, after a factor for each dimension has moved the
 * sizes of x's dimensions into the weights. Weights are packed in panels of PANEL features, four dimensions of each side by side:
 * [panel][width / 4][PANEL][4], with 128 added. A few dimensions far larger than the others would leave these no integers, so they have
 * a factor of zero there, and are multiplied as floats.
 */
#ifdef VNNI
#define STRIP 12
#define X_MOST 127
#else
#define STRIP 4
#define X_MOST 63 /* so that sums of two products fit 16 bits */
#endif
#define PANEL (2 * LANES)
#define STRIP_BYTES (320 << 10) /* of x, so that they stay in the second cache */
#define WIDEST 16384

int64_t panel_features(void) { return PANEL; }

void pack_rows(int64_t first, int64_t last, const float *W, const float *factor, int64_t width, uint8_t *packed, float *scale) {
    for (int64_t f = first; f < last; f++) {
        int8_t whole[WIDEST];
        const float most = largest_magnitude(W + f * width, factor, width);
        quantise(W + f * width, factor, width, most, 127, whole);
        scale[f] = most / 127;
        uint8_t *to = packed + f / PANEL * PANEL * width + f % PANEL * 4;
        for (int64_t i = 0; i < width; i += 4) {
            uint32_t four;
            memcpy(&four, whole + i, 4);
            four ^= 0x80808080u; /* 128 more, as unsigned bytes */
            memcpy(to + i * PANEL, &four, 4);
        }
    }
}

/* Dot products of STRIP rows of x with PANEL features. */
static void product(const uint8_t *w, const int32_t *x, int64_t groups, int32_t out[STRIP][PANEL]) {
#ifdef VNNI
    __m512i a[STRIP], b[STRIP]; /* plain locals, so that they stay in registers */
#pragma GCC unroll 16
    for (int r = 0; r < STRIP; r++) a[r] = b[r] = _mm512_setzero_si512();
    for (int64_t g = 0; g < groups; g++) {
        __m512i w0 = _mm512_loadu_si512(w + g * 4 * PANEL), w1 = _mm512_loadu_si512(w + g * 4 * PANEL + 64);
#pragma GCC unroll 16
        for (int r = 0; r < STRIP; r++) {
            __m512i v = _mm512_set1_epi32(x[g * STRIP + r]);
            a[r] = _mm512_dpbusd_epi32(a[r], w0, v);
            b[r] = _mm512_dpbusd_epi32(b[r], w1, v);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < STRIP; r++) {
        _mm512_storeu_si512(out[r], a[r]);
        _mm512_storeu_si512(out[r] + LANES, b[r]);
    }
#elif defined(__AVX2__)
    const __m256i ones = _mm256_set1_epi16(1);
    for (int half = 0; half < 2; half++) {
        __m256i a[STRIP], b[STRIP];
#pragma GCC unroll 8
        for (int r = 0; r < STRIP; r++) a[r] = b[r] = _mm256_setzero_si256();
        for (int64_t g = 0; g < groups; g++) {
            const uint8_t *from = w + g * 4 * PANEL + half * 64;
            __m256i w0 = _mm256_loadu_si256((const __m256i *)from), w1 = _mm256_loadu_si256((const __m256i *)(from + 32));
#pragma GCC unroll 8
            for (int r = 0; r < STRIP; r++) {
                __m256i v = _mm256_set1_epi32(x[g * STRIP + r]);
                a[r] = _mm256_add_epi32(a[r], _mm256_madd_epi16(_mm256_maddubs_epi16(w0, v), ones));
                b[r] = _mm256_add_epi32(b[r], _mm256_madd_epi16(_mm256_maddubs_epi16(w1, v), ones));
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < STRIP; r++) {
            _mm256_storeu_si256((__m256i *)(out[r] + half * LANES), a[r]);
            _mm256_storeu_si256((__m256i *)(out[r] + half * LANES + 8), b[r]);
        }
    }
#else
    memset(out, 0, sizeof(int32_t) * STRIP * PANEL);
    for (int64_t g = 0; g < groups; g++)
        for (int r = 0; r < STRIP; r++) {
            int8_t v[4];
            memcpy(v, x + g * STRIP + r, 4);
            for (int f = 0; f < PANEL; f++) {
                const uint8_t *four = w + g * 4 * PANEL + f * 4;
                out[r][f] += four[0] * v[0] + four[1] * v[1] + four[2] * v[2] + four[3] * v[3];
            }
        }
#endif
}

/* Which of PANEL lanes lie above the floor, a bit each. */
static inline uint32_t above(const float *guess, const float *floors, float floor) {
#ifdef VNNI
    uint32_t found = 0;
    for (int i = 0; i < PANEL; i += LANES) {
        __m512 least = floors ? _mm512_loadu_ps(floors + i) : _mm512_set1_ps(floor);
        found |= (uint32_t)_mm512_cmp_ps_mask(_mm512_loadu_ps(guess + i), least, _CMP_GT_OQ) << i;
    }
    return found;
#else
    uint32_t found = 0;
    for (int i = 0; i < PANEL; i++) found |= (uint32_t)(guess[i] > (floors ? floors[i] : floor)) << i;
    return found;
#endif
}

/* Move the `wanted` largest of (value, feature) to the front, equal values by the lower feature; return the least of them. */
static float keep_largest(float *value, int32_t *feature, int64_t count, int64_t wanted) {
    int64_t low = 0, high = count - 1;
#define BEFORE(v, f, w, g) ((v) > (w) || ((v) == (w) && (f) < (g)))
    while (low < high) {
        int64_t middle = low + (high - low) / 2, i = low, j = high;
        float pivot = value[middle];
        int32_t pivot_feature = feature[middle];
        while (i <= j) {
            while (BEFORE(value[i], feature[i], pivot, pivot_feature)) i++;
            while (BEFORE(pivot, pivot_feature, value[j], feature[j])) j--;
            if (i <= j) {
                float v = value[i];
                int32_t f = feature[i];
                value[i] = value[j], feature[i++] = feature[j];
                value[j] = v, feature[j--] = f;
            }
        }
        if (wanted - 1 <= j) high = j;
        else if (wanted - 1 >= i) low = i;
        else break;
    }
    float least = value[0];
    for (int64_t i = 1; i < wanted; i++) least = value[i] < least ? value[i] : least;
    return least;
}

/* Drop the least of (value, feature), so that at least `wanted` and few more are left; return what all that are left exceed.
 * Bisection: only counting, which runs in lanes, where sorting would stumble over each comparison. */
static float drop_least(float *value, int32_t *feature, int32_t *count, int64_t wanted) {
    lanes most = all(value[0]), least = most;
    int32_t i = 0;
    for (; i + LANES <= *count; i += LANES) {
        most = larger(load(value + i), most);
        least = -larger(-load(value + i), -least);
    }
    float low = least[0], high = most[0];
    for (int j = 1; j < LANES; j++) low = least[j] < low ? least[j] : low, high = most[j] > high ? most[j] : high;
    for (; i < *count; i++) low = value[i] < low ? value[i] : low, high = value[i] > high ? value[i] : high;
    low = nextafterf(low, -INFINITY);
    for (int round = 0; round < 16; round++) {
        float middle = low + (high - low) / 2;
        int32_t more = 0;
        for (i = 0; i < *count; i++) more += value[i] > middle;
        if (more < wanted) high = middle;
        else low = middle;
        if (more >= wanted && more <= wanted + wanted / 16) break;
    }
    int32_t kept = 0;
    for (i = 0; i < *count; i++) {
        float v = value[i];
        value[kept] = v, feature[kept] = feature[i];
        kept += v > low;
    }
    *count = kept;
    return low;
}

/* Guess pre-activations and keep, for each row, those above `floors` [n_features], or where that is NULL the `wanted` largest,
 * with floor[row] the largest that may have been left out. Features are padded to whole panels with a scale of zero and a bias
 * below all others; large_W [n_large, n_features] has the columns of W for the large dimensions. Returns how often a row had more than `capacity` above the floors, or -1 without memory. */
int64_t propose(int64_t first, int64_t last, const float *x, const float *inverse_factor, int64_t width, const uint8_t *packed,
                const float *scale, const float *bias, int64_t n_features, int64_t n_large, const int64_t *large, const float *large_W,
                const float *floors, int64_t wanted, int64_t capacity, float *guess, int32_t *feature, int32_t *count, float *floor) {
    const int64_t groups = width / 4, fitting = STRIP_BYTES / (STRIP * width), at_once = STRIP * (fitting < 1 ? 1 : fitting);
    int32_t sums[STRIP][PANEL], *strips = malloc(at_once * (width + sizeof(float) + sizeof(int32_t)));
    if (!strips) return -1;
    int32_t *offset = strips + at_once * groups;
    float *x_scale = (float *)(offset + at_once);
    int64_t overflowed = 0;
    for (int64_t row = first; row < last; row++) count[row] = 0, floor[row] = -INFINITY;
    for (int64_t start = first; start < last; start += at_once) {
        int64_t rows = last - start < at_once ? last - start : at_once;
        int64_t n_strips = (rows + STRIP - 1) / STRIP;
        memset(strips, 0, sizeof(int32_t) * n_strips * STRIP * groups);
        for (int64_t r = 0; r < rows; r++) {
            int8_t whole[WIDEST];
            const float *from = x + (start + r) * width, most = largest_magnitude(from, inverse_factor, width);
            offset[r] = 128 * quantise(from, inverse_factor, width, most, X_MOST, whole);
            x_scale[r] = most / X_MOST;
            for (int64_t g = 0; g < groups; g++) memcpy(strips + (r / STRIP * groups + g) * STRIP + r % STRIP, whole + 4 * g, 4);
        }
        for (int64_t f = 0; f < n_features; f += PANEL)
            for (int64_t s = 0; s < n_strips; s++) {
                product(packed + f * width, strips + s * STRIP * groups, groups, sums);
                for (int64_t r = s * STRIP; r < rows && r < (s + 1) * STRIP; r++) {
                    float guesses[PANEL];
                    int64_t row = start + r;
                    for (int i = 0; i < PANEL; i += LANES) {
                        integers whole = *(const integers *)(sums[r - s * STRIP] + i) - offset[r];
                        lanes v = __builtin_convertvector(whole, lanes) * x_scale[r] * load(scale + f + i) + load(bias + f + i);
                        for (int64_t j = 0; j < n_large; j++) v += x[row * width + large[j]] * load(large_W + j * n_features + f + i);
                        store(guesses + i, v);
                    }
                    uint32_t found = above(guesses, floors ? floors + f : 0, floor[row]);
                    if (__builtin_expect(!found, 1)) continue;
                    float *v = guess + row * capacity;
                    int32_t *at = feature + row * capacity;
                    if (count[row] + PANEL > capacity) {
                        if (floors) {
                            overflowed++;
                            continue;
                        }
                        floor[row] = drop_least(v, at, count + row, wanted);
                        if (count[row] + PANEL > capacity) { /* too many are equal */
                            floor[row] = keep_largest(v, at, count[row], wanted);
                            count[row] = (int32_t)wanted;
                        }
                        found = above(guesses, 0, floor[row]);
                    }
                    for (; found; found &= found - 1) {
                        int i = __builtin_ctz(found);
                        v[count[row]] = guesses[i];
                        at[count[row]++] = (int32_t)f + i;
                    }
                }
            }
    }
    free(strips);
    if (!floors)
        for (int64_t row = first; row < last; row++)
            if (count[row] > wanted + wanted / 16)
                floor[row] = drop_least(guess + row * capacity, feature + row * capacity, count + row, wanted);
    return overflowed;
}

/* ---------------------------------------------------------------- exact values */

static void sort_by_feature(float *value, int32_t *feature, int64_t count) {
    for (int64_t i = 1; i < count; i++) {
        float v = value[i];
        int32_t f = feature[i];
        int64_t j = i;
        for (; j > 0 && feature[j - 1] > f; j--) value[j] = value[j - 1], feature[j] = feature[j - 1];
        value[j] = v, feature[j] = f;
    }
}

/* product[pair] = x row . W row + bias, feature by feature, so that each row of W is fetched once. */
void products(int64_t first, int64_t last, const int64_t *by_feature, const int32_t *order, const int32_t *row, const float *x, const float *W,
              const float *bias, int64_t width, float *product) {
    for (int64_t f = first; f < last; f++)
        for (int64_t p = by_feature[f]; p < by_feature[f + 1]; p++) {
            if (p + 1 < by_feature[last]) prefetch(x + row[order[p + 1]] * width, width);
            product[order[p]] = dot(x + row[order[p]] * width, W + f * width, width) + bias[f];
        }
}

/* Move the k largest above zero of each row to the front of its pairs, by feature, and count them; floor[row] is the largest guess that
 * was not proposed, and doubtful[row] says whether one of the k may be among those. */
void choose(int64_t first, int64_t last, int64_t k, float doubt, const int64_t *starts, const float *guess, float *exact, int32_t *feature,
            const float *floor, int32_t *count, uint8_t *doubtful) {
    for (int64_t row = first; row < last; row++) {
        int64_t proposed = starts[row + 1] - starts[row];
        float *v = exact + starts[row], off = 0, least = 0;
        int32_t *at = feature + starts[row], kept = 0;
        for (int64_t i = 0; i < proposed; i++) {
            float error = fabsf(v[i] - guess[starts[row] + i]);
            off = error > off ? error : off;
        }
        if (proposed > k) least = keep_largest(v, at, proposed, k);
        for (int64_t i = 0; i < proposed && i < k; i++)
            if (v[i] > 0) v[kept] = v[i], at[kept++] = at[i];
        sort_by_feature(v, at, kept);
        count[row] = kept;
        doubtful[row] = proposed >= k && !((least > 0 ? least : 0) - floor[row] >= doubt * off);
    }
}

/* The same of all features, for rows[first] to rows[last]; `room` is [row, 2 k] values and features. */
void choose_of_all(int64_t first, int64_t last, const int64_t *rows, const float *x, const float *W, const float *bias, int64_t width,
                   int64_t n_features, int64_t k, float *room, int32_t *room_feature, const int64_t *starts, float *exact, int32_t *feature,
                   int32_t *count) {
    for (int64_t n = first; n < last; n++) count[rows[n]] = 0;
    for (int64_t f = 0; f < n_features; f++)
        for (int64_t n = first; n < last; n++) {
            float *v = room + n * 2 * k, value = dot(x + rows[n] * width, W + f * width, width) + bias[f];
            int32_t *at = room_feature + n * 2 * k, *found = count + rows[n];
            if (!(value > 0)) continue;
            if (*found == 2 * k) {
                keep_largest(v, at, 2 * k, k);
                *found = (int32_t)k;
            }
            v[*found] = value;
            at[(*found)++] = (int32_t)f;
        }
    for (int64_t n = first; n < last; n++) {
        int64_t row = rows[n];
        if (count[row] > k) {
            keep_largest(room + n * 2 * k, room_feature + n * 2 * k, count[row], k);
            count[row] = (int32_t)k;
        }
        sort_by_feature(room + n * 2 * k, room_feature + n * 2 * k, count[row]);
        memcpy(exact + starts[row], room + n * 2 * k, sizeof(float) * count[row]);
        memcpy(feature + starts[row], room_feature + n * 2 * k, sizeof(int32_t) * count[row]);
    }
}

/* Lay the first pairs of rows first to last side by side: from[row] to to[row]. */
void compact(int64_t first, int64_t last, const int64_t *from, const int64_t *to, const float *value, const int32_t *feature, float *to_value,
             int32_t *to_feature) {
    for (int64_t row = first; row < last; row++) {
        memcpy(to_value + to[row], value + from[row], sizeof(float) * (to[row + 1] - to[row]));
        memcpy(to_feature + to[row], feature + from[row], sizeof(int32_t) * (to[row + 1] - to[row]));
    }
}

/* ---------------------------------------------------------------- decoding */

/* error = y - base - sum of value * W_dec row; square[row] its squared length; product[pair] = error . W_dec row.
 * base is one row, or with base_stride = width a row of its own for each row. */
void decode(int64_t first, int64_t last, const float *y, const float *base, int64_t base_stride, const float *W_dec, int64_t width,
            const int64_t *starts, const int32_t *feature, const float *value, float *error, double *square, float *product) {
    for (int64_t row = first; row < last; row++) {
        float *e = error + row * width;
        const float *from = y + row * width, *b = base + row * base_stride;
        for (int64_t i = 0; i < width; i += LANES) store(e + i, load(from + i) - load(b + i));
        int64_t p = starts[row], end = starts[row + 1];
        for (; p + 2 <= end; p += 2) {
            const float *w0 = W_dec + feature[p] * width, *w1 = W_dec + feature[p + 1] * width;
            const float *next = p + 2 < end ? W_dec + feature[p + 2] * width : w0;
            const float *after = p + 3 < end ? W_dec + feature[p + 3] * width : w1;
            for (int64_t i = 0; i < width; i += LANES) {
                __builtin_prefetch(next + i);
                __builtin_prefetch(after + i);
                store(e + i, load(e + i) - value[p] * load(w0 + i) - value[p + 1] * load(w1 + i));
            }
        }
        if (p < end) {
            const float *w = W_dec + feature[p] * width;
            for (int64_t i = 0; i < width; i += LANES) store(e + i, load(e + i) - value[p] * load(w + i));
        }
        lanes squares = {0};
        for (int64_t i = 0; i < width; i += LANES) squares += load(e + i) * load(e + i);
        square[row] = sum(squares);
        for (p = starts[row]; p < end; p++) product[p] = dot(e, W_dec + feature[p] * width, width);
    }
}

/* ---------------------------------------------------------------- gradients by feature, and Adam */

/* Sort pairs by feature, stably: feature f's are order[starts[f]] to order[starts[f + 1]]. */
void group(int64_t n_features, int64_t n_pairs, const int32_t *feature, int64_t *starts, int32_t *order) {
    memset(starts, 0, sizeof(int64_t) * (n_features + 1));
    for (int64_t p = 0; p < n_pairs; p++) starts[feature[p]]++;
    int64_t before = 0;
    for (int64_t f = 0; f <= n_features; f++) {
        int64_t own = f < n_features ? starts[f] : 0;
        starts[f] = before;
        before += own;
    }
    for (int64_t p = 0; p < n_pairs; p++) order[starts[feature[p]]++] = (int32_t)p;
    for (int64_t f = n_features; f > 0; f--) starts[f] = starts[f - 1];
    starts[0] = 0;
}

/* gradient = dense row (or zero) + own * W + sum over the feature's pairs of weight * source row, four pairs at a time. */
static void gather(float *gradient, const float *dense, float own, const float *W, int64_t width, const int32_t *order, int64_t count,
                   const float *weight, const int32_t *row, const float *source) {
    for (int64_t i = 0; i < width; i += LANES)
        store(gradient + i, (dense ? load(dense + i) : (lanes){0}) + own * load(W + i));
    int64_t p = 0;
    for (; p + 4 <= count; p += 4) {
        const float *s0 = source + row[order[p]] * width, *s1 = source + row[order[p + 1]] * width;
        const float *s2 = source + row[order[p + 2]] * width, *s3 = source + row[order[p + 3]] * width;
        const float w0 = weight[order[p]], w1 = weight[order[p + 1]], w2 = weight[order[p + 2]], w3 = weight[order[p + 3]];
        for (int64_t i = 0; i < width; i += LANES)
            store(gradient + i, load(gradient + i) + ((w0 * load(s0 + i) + w1 * load(s1 + i)) + (w2 * load(s2 + i) + w3 * load(s3 + i))));
    }
    for (; p < count; p++) {
        const float *s = source + row[order[p]] * width, w = weight[order[p]];
        for (int64_t i = 0; i < width; i += LANES) store(gradient + i, load(gradient + i) + w * load(s + i));
    }
}

typedef struct {
    int64_t width;
    const int64_t *starts;      /* [n_features + 1] */
    const int32_t *order, *row; /* [pair] */
    const float *weight;        /* [pair] */
    const float *source;        /* [row, width] */
    const float *dense;         /* [some, width] more gradient, or NULL */
    const int32_t *dense_at;    /* [n_features] which row of `dense` a feature has, or -1 */
    const float *own;           /* [n_features] how much of its own row a feature's gradient has, or NULL */
    int32_t unit;               /* whether rows are kept at length one */
} rows_gradient;

static void row_gradient(const rows_gradient *g, const float *W, int64_t f, float *gradient) {
    const float *w = W + f * g->width;
    const float *dense = g->dense && g->dense_at[f] >= 0 ? g->dense + g->dense_at[f] * g->width : 0;
    gather(gradient, dense, g->own ? g->own[f] : 0, w, g->width, g->order + g->starts[f], g->starts[f + 1] - g->starts[f], g->weight,
           g->row, g->source);
    if (g->unit) { /* rows keep their length, so what points along them would only mislead Adam */
        float along = dot(gradient, w, g->width);
        for (int64_t i = 0; i < g->width; i += LANES) store(gradient + i, load(gradient + i) - along * load(w + i));
    }
}

/* square[feature]: squared length of each row's gradient. */
void gradient_squares(int64_t first, int64_t last, const rows_gradient *g, const float *W, double *square) {
    float gradient[WIDEST];
    for (int64_t f = first; f < last; f++) {
        row_gradient(g, W, f, gradient);
        square[f] = dot(gradient, gradient, g->width);
    }
}

/* One step of Adam on rows first to last, gradients times `scale`; rows back to length one; and packed again, where `packed` is. */
void update(int64_t first, int64_t last, const rows_gradient *g, float *W, float *m, float *v, float scale, float rate, float beta1,
            float beta2, float epsilon, float correction1, float correction2, const float *factor, uint8_t *packed, float *pack_scale) {
    float gradient[WIDEST];
    const lanes step = all(rate / correction1), root = all(sqrtf(correction2)), eps = all(epsilon);
    for (int64_t f = first; f < last; f++) {
        float *w = W + f * g->width, *mf = m + f * g->width, *vf = v + f * g->width;
        prefetch(mf, g->width);
        prefetch(vf, g->width);
        row_gradient(g, W, f, gradient);
        lanes squares = {0};
        for (int64_t i = 0; i < g->width; i += LANES) {
            lanes d = scale * load(gradient + i);
            lanes mean = load(mf + i) + (1 - beta1) * (d - load(mf + i)), spread = beta2 * load(vf + i) + (1 - beta2) * d * d;
            lanes deviation;
#ifdef VNNI
            deviation = (lanes)_mm512_sqrt_ps((__m512)spread);
#else
            for (int j = 0; j < LANES; j++) deviation[j] = sqrtf(spread[j]);
#endif
            lanes moved = load(w + i) - step * (mean / (deviation / root + eps));
            store(mf + i, mean);
            store(vf + i, spread);
            store(w + i, moved);
            squares += moved * moved;
        }
        if (g->unit) {
            float length = sqrtf(sum(squares)), shrink = 1 / (length > 1e-12f ? length : 1e-12f);
            for (int64_t i = 0; i < g->width; i += LANES) store(w + i, load(w + i) * shrink);
        }
        if (packed) pack_rows(f, f + 1, W, factor, g->width, packed, pack_scale);
    }
}
