// Scans of packed rows, fused: products, thresholds and the rows that are kept never leave the multiprocessor.
//
// All integers of a launch stand in one array, `plan`, laid out by plan.rs. A row that is kept is an entry of 64 bits: the
// score as an integer that orders like it, then the row number; so entries order like (score, row number). An entry of all ones
// is no row.
//
// scan_tile   a block per (piece, tile of 64 queries): 128 rows at a time against 64 queries, 8 x 8 products per thread
// scan_warp   a warp per (part of a piece, query): where few queries meet at a piece, and reading the rows is all there is
// merge       a warp per query: what its pieces have kept, down to `keep`
//
// The file is CUDA C++ that also compiles as plain C++ where the few names it takes from CUDA are defined: that is how it is
// tested on a machine without a GPU (tests/cuda).

typedef unsigned int u32;
typedef unsigned long long u64;

#define THREADS 128
#define WARPS (THREADS / 32)
#define TILE_QUERIES 64
#define TILE_ROWS 128
#define DEPTH 16
#define QUEUE 32
#define ALL_LANES 0xffffffffu
#define NO_ENTRY 0xffffffffffffffffull

// As in plan.rs.
#define PIECE_WORDS 6
#define TILE_WORDS 3
#define WARP_WORDS 5
#define PAIR_WORDS 3

#define SCORE_L2 0
#define SCORE_IP 1
#define SCORE_L1 2

// A number that orders like the score.
__device__ __forceinline__ u32 ordered(float score) {
    u32 bits = __float_as_uint(score);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ bool is_finite(float x) {
    return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u;
}

struct Piece {
    const float* rows;
    const float* half_norms;
    u32 first;
    u32 len;
};

__device__ __forceinline__ Piece read_piece(const u32* at) {
    Piece piece;
    piece.rows = (const float*)(u64)(at[0] | (u64)at[1] << 32);
    piece.half_norms = (const float*)(u64)(at[2] | (u64)at[3] << 32);
    piece.first = at[4];
    piece.len = at[5];
    return piece;
}

__device__ __forceinline__ bool is_wanted(const u32* wanted, u32 number) {
    return wanted[number >> 5] >> (number & 31) & 1;
}

// Puts an entry in its place among the `keep` smallest, ascending. All lanes of a warp call it with the same arguments.
__device__ __forceinline__ void insert(u64* best, int keep, u64 entry, int lane) {
    for (int base = (keep - 1) / 32 * 32; base >= 0; base -= 32) {
        int i = base + lane;
        u64 mine = i < keep ? best[i] : 0;
        u64 before = i > 0 && i < keep ? best[i - 1] : 0;
        __syncwarp();
        if (mine > entry) best[i] = before > entry ? before : entry;
        __syncwarp();
    }
}

// Thresholds in global memory are kept inverted, so that memory of zeros says "none yet".
__device__ __forceinline__ u32 read_threshold(const u32* thresholds, u32 query) {
    return ~*(const volatile u32*)(thresholds + query);
}

__device__ __forceinline__ void tighten(u32* thresholds, u32 query, u64 worst) {
    if (worst != NO_ENTRY) atomicMax(thresholds + query, ~(u32)(worst >> 32));
}

template <int SCORE>
__device__ __forceinline__ float accumulate(float sum, float q, float x) {
    return SCORE == SCORE_L1 ? sum + fabsf(q - x) : fmaf(q, x, sum);
}

template <int SCORE>
__device__ __forceinline__ float finish(float sum, float half_norm) {
    // Zeros of either sign are one score.
    return (SCORE == SCORE_L1 ? sum : SCORE == SCORE_IP ? -sum : half_norm - sum) + 0.0f;
}

// Four numbers of a vector from k on, zeros behind its end. `vec4` says that dim is a multiple of 4.
__device__ __forceinline__ float4 load4(const float* vector, int k, int dim, bool vec4) {
    if (vec4 && k < dim) return *(const float4*)(vector + k);
    float4 out;
    out.x = k < dim ? vector[k] : 0.0f;
    out.y = k + 1 < dim ? vector[k + 1] : 0.0f;
    out.z = k + 2 < dim ? vector[k + 2] : 0.0f;
    out.w = k + 3 < dim ? vector[k + 3] : 0.0f;
    return out;
}

// Stores part `at` of a step, four numbers of vector `at` / 4, dimension-major.
template <int WIDTH>
__device__ __forceinline__ void store4(float (*step)[WIDTH], int at, const float4& four) {
    int k = at % 4 * 4;
    step[k][at / 4] = four.x;
    step[k + 1][at / 4] = four.y;
    step[k + 2][at / 4] = four.z;
    step[k + 3][at / 4] = four.w;
}

struct TileMemory {
    // Dimension-major, padded so that no more than two threads of a warp store into one bank.
    float rows[2][DEPTH][TILE_ROWS + 4];
    float queries[2][DEPTH][TILE_QUERIES + 4];
    // Survivors that wait for their turn, by query.
    u64 queue[TILE_QUERIES][QUEUE];
    u32 waiting[TILE_QUERIES];
    u32 threshold[TILE_QUERIES];
    u32 query[TILE_QUERIES];
    u32 end[TILE_QUERIES];
    u32 slot[TILE_QUERIES];
};
// As cuda.rs has it.
static_assert(sizeof(TileMemory) == 43264, "");

// Moves what waits into the lists of kept rows: a warp for each query in turn.
__device__ __forceinline__ void drain(TileMemory* memory, u64* best, int keep, int queries, u32* thresholds, int thread) {
    int lane = thread & 31;
    for (int i = thread >> 5; i < queries; i += WARPS) {
        u32 waiting = memory->waiting[i];
        if (waiting == 0) continue;
        u64* mine = best + i * keep;
        for (u32 at = 0; at < waiting; at++) {
            u64 entry = memory->queue[i][at];
            if (entry < mine[keep - 1]) insert(mine, keep, entry, lane);
        }
        __syncwarp();
        if (lane == 0) {
            memory->waiting[i] = 0;
            tighten(thresholds, memory->query[i], mine[keep - 1]);
            u32 own = (u32)(mine[keep - 1] >> 32);
            u32 common = read_threshold(thresholds, memory->query[i]);
            memory->threshold[i] = own < common ? own : common;
        }
    }
}

template <int SCORE>
__device__ __forceinline__ void tile(const u32* plan, u32 pieces_at, u32 tiles_at, u32 pairs_at, u32 wanted_at,
                                     const float* queries, int dim, int keep, u32* thresholds, u64* slots, u64* shared) {
    TileMemory* memory = (TileMemory*)shared;
    u64* best = shared + (sizeof(TileMemory) + 7) / 8;
    const int thread = threadIdx.x;
    const u32* task = plan + tiles_at + blockIdx.x * TILE_WORDS;
    const Piece piece = read_piece(plan + pieces_at + task[0] * PIECE_WORDS);
    const int members = task[2];
    const u32* wanted = plan + wanted_at;
    const bool vec4 = dim % 4 == 0;

    if (thread < TILE_QUERIES) {
        const u32* pair = plan + pairs_at + (task[1] + (thread < members ? thread : 0)) * PAIR_WORDS;
        memory->query[thread] = pair[0];
        memory->end[thread] = thread < members ? min(pair[1], piece.len) : 0;
        memory->slot[thread] = pair[2];
        memory->waiting[thread] = 0;
        memory->threshold[thread] = read_threshold(thresholds, pair[0]);
    }
    for (int i = thread; i < TILE_QUERIES * keep; i += THREADS) best[i] = NO_ENTRY;
    __syncthreads();
    u32 last = 0;
    for (int i = 0; i < members; i++) last = max(last, memory->end[i]);

    // A thread's 8 rows are 4 and 4, its 8 queries follow each other.
    const int row_at = thread % 16 * 4;
    const int query_at = thread / 16 * 8;
    for (u32 top = 0; top < last; top += TILE_ROWS) {
        float sum[8][8];
        for (int i = 0; i < 8; i++)
            for (int j = 0; j < 8; j++) sum[i][j] = 0.0f;
        float4 rows_ahead[4], queries_ahead[2];
        const int steps = (dim + DEPTH - 1) / DEPTH;
        for (int step = -1; step < steps; step++) {
            const int ahead = step + 1;
            if (ahead < steps) {
                // Read what comes next while this step computes.
                for (int i = 0; i < 4; i++) {
                    int at = thread + i * THREADS;
                    u32 row = top + at / 4;
                    row = row < piece.len ? row : piece.len - 1;
                    rows_ahead[i] = load4(piece.rows + (u64)row * dim, ahead * DEPTH + at % 4 * 4, dim, vec4);
                }
                for (int i = 0; i < 2; i++) {
                    int at = thread + i * THREADS;
                    const float* query = queries + (u64)memory->query[at / 4] * dim;
                    queries_ahead[i] = load4(query, ahead * DEPTH + at % 4 * 4, dim, vec4);
                }
            }
            if (step >= 0) {
                const int buffer = step & 1;
#pragma unroll
                for (int k = 0; k < DEPTH; k++) {
                    float x[8], q[8];
                    *(float4*)x = *(const float4*)&memory->rows[buffer][k][row_at];
                    *(float4*)(x + 4) = *(const float4*)&memory->rows[buffer][k][row_at + TILE_ROWS / 2];
                    *(float4*)q = *(const float4*)&memory->queries[buffer][k][query_at];
                    *(float4*)(q + 4) = *(const float4*)&memory->queries[buffer][k][query_at + 4];
#pragma unroll
                    for (int i = 0; i < 8; i++)
#pragma unroll
                        for (int j = 0; j < 8; j++) sum[i][j] = accumulate<SCORE>(sum[i][j], q[i], x[j]);
                }
            }
            if (ahead < steps) {
                const int buffer = ahead & 1;
                for (int i = 0; i < 4; i++) store4(memory->rows[buffer], thread + i * THREADS, rows_ahead[i]);
                for (int i = 0; i < 2; i++) store4(memory->queries[buffer], thread + i * THREADS, queries_ahead[i]);
            }
            __syncthreads();
        }
        // What all rows need is read before the first barrier, not between them.
        float half_norms[8];
        u32 look = 0;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const u32 row = top + row_at + j % 4 + j / 4 * (TILE_ROWS / 2);
            const bool is_there = row < last && is_wanted(wanted, piece.first + row);
            half_norms[j] = is_there ? piece.half_norms[row] : 0.0f;
            look |= (u32)is_there << j;
        }
        // One of the thread's rows at a time: at most 16 survivors more for any query, for which the queue has room.
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const u32 row = top + row_at + j % 4 + j / 4 * (TILE_ROWS / 2);
            if (look >> j & 1) {
                const float half_norm = half_norms[j];
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    const int member = query_at + i;
                    const float score = finish<SCORE>(sum[i][j], half_norm);
                    const u32 order = ordered(score);
                    if (row < memory->end[member] && order <= memory->threshold[member] && is_finite(score)) {
                        u32 place = atomicAdd(&memory->waiting[member], 1u);
                        memory->queue[member][place] = (u64)order << 32 | (piece.first + row);
                    }
                }
            }
            __syncthreads();
            if (__syncthreads_or(thread < TILE_QUERIES && memory->waiting[thread] > QUEUE - 16)) {
                drain(memory, best, keep, members, thresholds, thread);
                __syncthreads();
            }
        }
    }
    drain(memory, best, keep, members, thresholds, thread);
    __syncthreads();
    for (int i = thread; i < members * keep; i += THREADS) slots[(u64)memory->slot[i / keep] * keep + i % keep] = best[i];
}

template <int SCORE>
__device__ __forceinline__ void warp(const u32* plan, u32 pieces_at, u32 tasks_at, u32 tasks, u32 wanted_at, const float* queries,
                                     int dim, int keep, u32* thresholds, u64* slots, u64* shared) {
    const int lane = threadIdx.x & 31;
    const u32 number = blockIdx.x * WARPS + (threadIdx.x >> 5);
    if (number >= tasks) return;
    u64* best = shared + (threadIdx.x >> 5) * keep;
    const u32* task = plan + tasks_at + number * WARP_WORDS;
    const Piece piece = read_piece(plan + pieces_at + task[0] * PIECE_WORDS);
    const u32 no = task[1], from = task[2], to = task[3], slot = task[4];
    const u32* wanted = plan + wanted_at;
    const float* query = queries + (u64)no * dim;
    const bool vec4 = dim % 4 == 0;
    for (int i = lane; i < keep; i += 32) best[i] = NO_ENTRY;
    __syncwarp();
    u32 threshold = read_threshold(thresholds, no);
    for (u32 top = from; top < to; top += 4) {
        // Four rows on the way at a time.
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (int k = lane * 4; k < dim; k += 128) {
            const float4 q = load4(query, k, dim, vec4);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                u32 row = top + i < to ? top + i : to - 1;
                const float4 x = load4(piece.rows + (u64)row * dim, k, dim, vec4);
                sum[i] = accumulate<SCORE>(sum[i], q.x, x.x);
                sum[i] = accumulate<SCORE>(sum[i], q.y, x.y);
                sum[i] = accumulate<SCORE>(sum[i], q.z, x.z);
                sum[i] = accumulate<SCORE>(sum[i], q.w, x.w);
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            for (int apart = 16; apart > 0; apart /= 2) sum[i] += __shfl_xor_sync(ALL_LANES, sum[i], apart);
            const u32 row = top + i;
            if (row >= to || !is_wanted(wanted, piece.first + row)) continue;
            const float score = finish<SCORE>(sum[i], piece.half_norms[row]);
            const u32 order = ordered(score);
            const u64 entry = (u64)order << 32 | (piece.first + row);
            if (order <= threshold && is_finite(score) && entry < best[keep - 1]) {
                insert(best, keep, entry, lane);
                const u32 own = (u32)(best[keep - 1] >> 32);
                threshold = own < threshold ? own : threshold;
            }
        }
    }
    if (lane == 0) tighten(thresholds, no, best[keep - 1]);
    for (int i = lane; i < keep; i += 32) slots[(u64)slot * keep + i] = best[i];
}

// The integer that orders like a score, back into its bits.
__device__ __forceinline__ u32 unordered(u32 order) {
    return order >> 31 ? order & 0x7fffffffu : ~order;
}

extern "C" __global__ void merge(const u32* plan, u32 offsets_at, u32 nq, int keep, const u64* slots, u32* out) {
    extern __shared__ __align__(16) u64 shared[];
    const int lane = threadIdx.x & 31;
    const u32 query = blockIdx.x * WARPS + (threadIdx.x >> 5);
    if (query >= nq) return;
    u64* best = shared + (threadIdx.x >> 5) * keep;
    for (int i = lane; i < keep; i += 32) best[i] = NO_ENTRY;
    __syncwarp();
    const u64 begin = (u64)plan[offsets_at + query] * keep, end = (u64)plan[offsets_at + query + 1] * keep;
    for (u64 at = begin; at < end; at += 32) {
        const u64 mine = at + lane < end ? slots[at + lane] : NO_ENTRY;
        u32 left = __ballot_sync(ALL_LANES, mine < best[keep - 1]);
        while (left) {
            const int source = __ffs(left) - 1;
            left &= left - 1;
            const u64 entry = __shfl_sync(ALL_LANES, mine, source);
            if (entry < best[keep - 1]) insert(best, keep, entry, lane);
        }
        __syncwarp();
    }
    for (int i = lane; i < keep; i += 32) {
        const u64 entry = best[i];
        out[((u64)query * keep + i) * 2] = unordered((u32)(entry >> 32));
        out[((u64)query * keep + i) * 2 + 1] = (u32)entry;
    }
}

#define SCANS(NAME, SCORE)                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, 3)                                                                     \
        scan_tile_##NAME(const u32* plan, u32 pieces_at, u32 tiles_at, u32 pairs_at, u32 wanted_at, const float* queries,        \
                         int dim, int keep, u32* thresholds, u64* slots) {                                                       \
        extern __shared__ __align__(16) u64 shared[];                                                                            \
        tile<SCORE>(plan, pieces_at, tiles_at, pairs_at, wanted_at, queries, dim, keep, thresholds, slots, shared);              \
    }                                                                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                                        \
        scan_warp_##NAME(const u32* plan, u32 pieces_at, u32 tasks_at, u32 tasks, u32 wanted_at, const float* queries, int dim,  \
                         int keep, u32* thresholds, u64* slots) {                                                                \
        extern __shared__ __align__(16) u64 shared[];                                                                            \
        warp<SCORE>(plan, pieces_at, tasks_at, tasks, wanted_at, queries, dim, keep, thresholds, slots, shared);                 \
    }

SCANS(l2, SCORE_L2)
SCANS(ip, SCORE_IP)
SCANS(l1, SCORE_L1)
