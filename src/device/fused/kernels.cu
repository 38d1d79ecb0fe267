// Scans of packed rows, fused: products, thresholds and the rows that are kept never leave the multiprocessor.
//
// A row that is kept is an entry of 64 bits: the score as an integer that orders like it, then the row number; so entries order
// like (score, row number). An entry of all ones is no row.
//
// scan_tile   a block per (piece, tile of 64 queries): 128 rows at a time against 64 queries, 8 x 8 products per thread
// scan_warp   a warp per (part of a piece, query): where few queries meet at a piece, and reading the rows is all there is
// merge       a warp per query: what its tasks have kept, down to `keep`, with exact keys
//
// Where the device chooses the lists itself, lists are scanned like rows first (centre, and scan_tile over the centroids), and then
//
// count, lay, scatter   sort the queries by list and cut them into tiles
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
// A row of a step in shared memory: 8 rows that follow each other begin in banks of their own.
#define STEP (DEPTH + 4)
#define QUEUE 16
#define MAX_KEEP 96
#define ALL_LANES 0xffffffffu
#define NO_ENTRY 0xffffffffffffffffull
#define INFINITE __uint_as_float(0x7f800000u)
// No finite score is above it.
#define NO_THRESHOLD __uint_as_float(0x7f7fffffu)
#define EACH 0xffffffffu
#ifndef REFUSE
#define REFUSE(text)
#endif

// As in plan.rs.
#define PIECE_WORDS 6
#define TILE_WORDS 3
#define WARP_WORDS 4

#define SCORE_PRODUCT 0
#define SCORE_L1 1

#define KEY_L2 0
#define KEY_IP 1
#define KEY_L1 2

// What a scan reads and writes. As in cuda.rs. `table` describes the rows, `work` the tasks; *_at are places in them.
struct Scan {
    const u32* table;
    const u32* work;
    const float* queries;
    // By query, of zeros: the complement of the threshold, and how many entries are kept so far.
    u32* thresholds;
    u32* counts;
    // `stride` entries of each query.
    u64* kept;
    // In `table`: PIECE_WORDS of each piece; bits of the rows that may be found.
    u32 pieces_at;
    u32 wanted_at;
    // In `work`: the number of tasks and then the tasks, or EACH: all queries at the first piece; the query of each pair, or EACH:
    // that of its number; the end of each pair, or EACH: none.
    u32 tasks_at;
    u32 pairs_at;
    u32 ends_at;
    u32 stride;
    u32 nq;
    u32 dim;
    u32 keep;
};

// A number that orders like the score. Zeros of either sign are one score.
__device__ __forceinline__ u32 ordered(float score) {
    u32 bits = __float_as_uint(score + 0.0f);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// The score that an ordered number stands for; for that of no entry `none`.
__device__ __forceinline__ float unordered(u32 order, float none) {
    if (order == (u32)(NO_ENTRY >> 32)) return none;
    return __uint_as_float(order >> 31 ? order & 0x7fffffffu : ~order);
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

// What the sum of a row begins with: infinite for a row that is not wanted, so that no threshold lets it pass.
template <int SCORE>
__device__ __forceinline__ float begin(const Scan& scan, const Piece& piece, u32 row) {
    const u32 number = piece.first + row;
    if (row >= piece.len || !(scan.table[scan.wanted_at + (number >> 5)] >> (number & 31) & 1)) return INFINITE;
    return SCORE == SCORE_PRODUCT ? piece.half_norms[row] : 0.0f;
}

template <int SCORE>
__device__ __forceinline__ float accumulate(float sum, float q, float x) {
    return SCORE == SCORE_L1 ? sum + fabsf(q - x) : fmaf(-x, q, sum);
}

// The `keep` smallest entries, ascending, in the registers of a warp: entry 32 p + l in part p of lane l. Behind them, up to the end
// of their last part, may be more.
struct Best {
    u64 part[MAX_KEEP / 32];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int p = 0; p < MAX_KEEP / 32; p++) part[p] = NO_ENTRY;
    }

    __device__ __forceinline__ void load(const u64* from, u32 keep, int lane) {
#pragma unroll
        for (int p = 0; p < MAX_KEEP / 32; p++) part[p] = p * 32 + lane < keep ? from[p * 32 + lane] : NO_ENTRY;
    }

    __device__ __forceinline__ void store(u64* to, u32 keep, int lane) const {
#pragma unroll
        for (int p = 0; p < MAX_KEEP / 32; p++)
            if (p * 32 + lane < keep) to[p * 32 + lane] = part[p];
    }

    // Entry i, for all lanes.
    __device__ __forceinline__ u64 at(u32 i) const {
        // Not one place in an array: registers have no addresses.
        if (i >= 64) return __shfl_sync(ALL_LANES, part[2], i % 32);
        if (i >= 32) return __shfl_sync(ALL_LANES, part[1], i % 32);
        return __shfl_sync(ALL_LANES, part[0], i % 32);
    }

    // Puts an entry in its place; what is behind it moves by one. All lanes call it with the same one.
    __device__ __forceinline__ void insert(u64 entry, u32 keep, int lane) {
#pragma unroll
        for (int p = MAX_KEEP / 32 - 1; p >= 0; p--) {
            if (p * 32 >= keep) continue;
            // What stands one place before: for the first lane, the last of the part before.
            const u64 given = lane < 31 ? part[p] : p > 0 ? part[p > 0 ? p - 1 : 0] : 0;
            const u64 before = __shfl_sync(ALL_LANES, given, (lane + 31) & 31);
            if (part[p] > entry) part[p] = before > entry ? before : entry;
        }
    }

    // Puts the entries of lanes that have one in their places.
    __device__ __forceinline__ void insert_all(u64 entry, bool is_there, u32 keep, int lane) {
        for (u32 left = __ballot_sync(ALL_LANES, is_there); left != 0; left &= left - 1)
            insert(__shfl_sync(ALL_LANES, entry, __ffs(left) - 1), keep, lane);
    }
};

// Thresholds in global memory are kept inverted, so that memory of zeros says "none yet".
__device__ __forceinline__ u32 read_threshold(const Scan& scan, u32 query) {
    return ~*(const volatile u32*)(scan.thresholds + query);
}

__device__ __forceinline__ void tighten(const Scan& scan, u32 query, u64 worst) {
    if (worst != NO_ENTRY) atomicMax(scan.thresholds + query, ~(u32)(worst >> 32));
}

// Adds what a task has kept of a query to what the others have, as far as it can be among the best.
__device__ __forceinline__ void append(const Scan& scan, u32 query, const Best& best, int lane) {
    const u32 threshold = (u32)__shfl_sync(ALL_LANES, read_threshold(scan, query), 0);
    u32 count = 0;
#pragma unroll
    for (int p = 0; p < MAX_KEEP / 32; p++) {
        const bool is_kept = p * 32 + lane < scan.keep && best.part[p] != NO_ENTRY;
        count += __popc(__ballot_sync(ALL_LANES, is_kept && (u32)(best.part[p] >> 32) <= threshold));
    }
    if (count == 0) return;
    u32 first = 0;
    if (lane == 0) first = atomicAdd(scan.counts + query, count);
    first = (u32)__shfl_sync(ALL_LANES, first, 0);
    // They stand ascending: the first ones are those.
#pragma unroll
    for (int p = 0; p < MAX_KEEP / 32; p++) {
        const u32 i = p * 32 + lane;
        if (i >= count) continue;
        if (first + i >= scan.stride) {
            REFUSE("more is kept of a query than there is room for");
            continue;
        }
        scan.kept[(u64)query * scan.stride + first + i] = best.part[p];
    }
}

// Four numbers of a vector from k on, zeros behind its end.
__device__ __forceinline__ float4 load4(const float* vector, u32 k, u32 dim, bool vec4) {
    if (vec4 && k < dim) return *(const float4*)(vector + k);
    float4 out;
    out.x = k < dim ? vector[k] : 0.0f;
    out.y = k + 1 < dim ? vector[k + 1] : 0.0f;
    out.z = k + 2 < dim ? vector[k + 2] : 0.0f;
    out.w = k + 3 < dim ? vector[k + 3] : 0.0f;
    return out;
}

// The same to shared memory; where dim is a multiple of 4 it arrives by the next `arrived`.
__device__ __forceinline__ void copy4(float* to, const float* vector, u32 k, u32 dim, bool vec4) {
#ifdef __CUDA_ARCH__
    if (vec4) {
        const u32 at = (u32)__cvta_generic_to_shared(to);
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(vector + (k < dim ? k : 0)), "r"(k < dim ? 16 : 0) : "memory");
        return;
    }
#endif
    *(float4*)to = load4(vector, k, dim, vec4);
}

__device__ __forceinline__ void arrived() {
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

struct TileMemory {
    float rows[2][TILE_ROWS][STEP];
    float queries[2][TILE_QUERIES][STEP];
    // Survivors that wait for their turn, by query: the bits of the score, and the row number. And how many there were: those beyond the
    // queue come again.
    u64 queue[TILE_QUERIES][QUEUE];
    u32 waiting[TILE_QUERIES];
    float threshold[TILE_QUERIES];
    u32 query[TILE_QUERIES];
    u32 end[TILE_QUERIES];
};
// As cuda.rs has it.
static_assert(MAX_KEEP == 96, "");
static_assert(sizeof(TileMemory) == 39936, "");

// Moves what waits into the lists of kept rows: a warp for each query in turn.
__device__ __forceinline__ void drain(const Scan& scan, TileMemory* memory, u64* best, int thread) {
    const int lane = thread & 31;
    for (u32 i = thread >> 5; i < TILE_QUERIES; i += WARPS) {
        const u32 waiting = min(memory->waiting[i], (u32)QUEUE);
        if (waiting == 0) continue;
        Best mine;
        mine.load(best + i * scan.keep, scan.keep, lane);
        const u64 queued = memory->queue[i][lane % QUEUE];
        const float score = __uint_as_float((u32)(queued >> 32));
        mine.insert_all((u64)ordered(score) << 32 | (u32)queued, lane < waiting && is_finite(score), scan.keep, lane);
        mine.store(best + i * scan.keep, scan.keep, lane);
        const u64 worst = mine.at(scan.keep - 1);
        __syncwarp();
        if (lane == 0) {
            memory->waiting[i] = 0;
            tighten(scan, memory->query[i], worst);
            memory->threshold[i] = fminf(memory->threshold[i], unordered((u32)(worst >> 32), NO_THRESHOLD));
        }
    }
}

template <int SCORE>
__device__ __forceinline__ void tile(const Scan& scan, u64* shared) {
    TileMemory* memory = (TileMemory*)shared;
    u64* best = shared + sizeof(TileMemory) / 8;
    const int thread = threadIdx.x, lane = thread & 31;
    const bool each = scan.tasks_at == EACH;
    if (!each && blockIdx.x >= scan.work[scan.tasks_at]) return;
    const u32* task = scan.work + scan.tasks_at + 1 + blockIdx.x * TILE_WORDS;
    const Piece piece = read_piece(scan.table + scan.pieces_at + (each ? 0 : task[0]) * PIECE_WORDS);
    const u32 first_pair = each ? blockIdx.x * TILE_QUERIES : task[1];
    const u32 members = each ? min(scan.nq - first_pair, (u32)TILE_QUERIES) : task[2], dim = scan.dim, keep = scan.keep;
    const bool vec4 = dim % 4 == 0;

    if (thread < TILE_QUERIES) {
        const bool is_there = thread < members;
        const u32 pair = first_pair + (is_there ? thread : 0);
        const u32 end = scan.ends_at == EACH ? piece.len : min(scan.work[scan.ends_at + pair], piece.len);
        memory->query[thread] = scan.pairs_at == EACH ? pair : scan.work[scan.pairs_at + pair];
        memory->end[thread] = is_there ? end : 0;
        memory->waiting[thread] = 0;
        // Places without a query let nothing pass.
        memory->threshold[thread] = is_there ? NO_THRESHOLD : -INFINITE;
    }
    for (u32 i = thread; i < TILE_QUERIES * keep; i += THREADS) best[i] = NO_ENTRY;
    __syncthreads();
    u32 last = 0;
    for (u32 i = 0; i < members; i++) last = max(last, memory->end[i]);

    // A warp has half of the rows and half of the queries, a thread every 8th row and every 4th query of them.
    const int row_at = (thread >> 5 & 1) * (TILE_ROWS / 2) + lane % 8;
    const int query_at = (thread >> 6) * (TILE_QUERIES / 2) + lane / 8;
    // What a thread copies: four numbers of four rows and two queries.
    const int copy_at = thread / 4, copy_k = thread % 4 * 4;
    const u32 steps = (dim + DEPTH - 1) / DEPTH;
    for (u32 top = 0; top < last; top += TILE_ROWS) {
        auto copy = [&](u32 step) {
            const u32 k = step * DEPTH + copy_k;
#pragma unroll
            for (int i = 0; i < TILE_ROWS / 32; i++) {
                const u32 row = min(top + copy_at + 32 * i, piece.len - 1);
                copy4(&memory->rows[step & 1][copy_at + 32 * i][copy_k], piece.rows + (u64)row * dim, k, dim, vec4);
            }
#pragma unroll
            for (int i = 0; i < TILE_QUERIES / 32; i++) {
                const float* query = scan.queries + (u64)memory->query[copy_at + 32 * i] * dim;
                copy4(&memory->queries[step & 1][copy_at + 32 * i][copy_k], query, k, dim, vec4);
            }
        };
        copy(0);
        // Behind the last row a warp only copies.
        const bool is_idle = top + (thread >> 5 & 1) * (TILE_ROWS / 2) >= last;
        // Others may have found nearer rows meanwhile.
        if (thread < TILE_QUERIES) {
            const u32 common = read_threshold(scan, memory->query[thread]);
            memory->threshold[thread] = fminf(memory->threshold[thread], unordered(common, NO_THRESHOLD));
        }
        float sum[8][8];
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const float first = begin<SCORE>(scan, piece, top + row_at + 8 * j);
#pragma unroll
            for (int i = 0; i < 8; i++) sum[i][j] = first;
        }
        arrived();
        __syncthreads();
        for (u32 step = 0; step < steps; step++) {
            // What comes next is copied while this step computes.
            if (step + 1 < steps) copy(step + 1);
            const int buffer = step & 1;
            // The barrier below is one for all warps.
#pragma unroll
            for (int k = 0; k < (is_idle ? 0 : DEPTH); k += 4) {
                float4 q[8];
#pragma unroll
                for (int i = 0; i < 8; i++) q[i] = *(const float4*)&memory->queries[buffer][query_at + 4 * i][k];
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    const float4 x = *(const float4*)&memory->rows[buffer][row_at + 8 * j][k];
                    // In the order of dimensions for every pair.
#pragma unroll
                    for (int i = 0; i < 8; i++) sum[i][j] = accumulate<SCORE>(sum[i][j], q[i].x, x.x);
#pragma unroll
                    for (int i = 0; i < 8; i++) sum[i][j] = accumulate<SCORE>(sum[i][j], q[i].y, x.y);
#pragma unroll
                    for (int i = 0; i < 8; i++) sum[i][j] = accumulate<SCORE>(sum[i][j], q[i].z, x.z);
#pragma unroll
                    for (int i = 0; i < 8; i++) sum[i][j] = accumulate<SCORE>(sum[i][j], q[i].w, x.w);
                }
            }
            arrived();
            __syncthreads();
        }
        const u32 first_number = piece.first + top + row_at;
        for (bool again = true; again;) {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const int member = query_at + 4 * i;
                const float threshold = memory->threshold[member];
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    // An infinite sum passes no threshold.
                    if (sum[i][j] <= threshold && (scan.ends_at == EACH || top + row_at + 8 * j < memory->end[member])) {
                        const u32 place = atomicAdd(&memory->waiting[member], 1u);
                        if (place < QUEUE) {
                            memory->queue[member][place] = (u64)__float_as_uint(sum[i][j]) << 32 | (first_number + 8 * j);
                            // Once is enough.
                            sum[i][j] = INFINITE;
                        }
                    }
                }
            }
            __syncthreads();
            const u32 waiting = thread < TILE_QUERIES ? memory->waiting[thread] : 0;
            again = __syncthreads_or(waiting > QUEUE);
            if (__syncthreads_or(waiting > QUEUE / 2)) {
                drain(scan, memory, best, thread);
                __syncthreads();
            }
        }
    }
    drain(scan, memory, best, thread);
    __syncwarp();
    for (u32 i = thread >> 5; i < members; i += WARPS) {
        Best mine;
        mine.load(best + i * keep, keep, lane);
        append(scan, memory->query[i], mine, lane);
    }
}

template <int SCORE>
__device__ __forceinline__ void warp(const Scan& scan) {
    const int lane = threadIdx.x & 31, own = threadIdx.x >> 5;
    const u32 number = blockIdx.x * WARPS + own, dim = scan.dim, keep = scan.keep;
    if (number >= scan.work[scan.tasks_at]) return;
    const u32* task = scan.work + scan.tasks_at + 1 + number * WARP_WORDS;
    const Piece piece = read_piece(scan.table + scan.pieces_at + task[0] * PIECE_WORDS);
    const u32 query = task[1], to = task[3];
    const float* of_query = scan.queries + (u64)query * dim;
    const bool vec4 = dim % 4 == 0;
    Best best;
    best.clear();
    u64 worst = NO_ENTRY;
    for (u32 top = task[2]; top < to; top += 32) {
        // The sum of row i of 32 ends in lane i.
        float score = 0.0f;
        for (int group = 0; group < 32 && top + group < to; group += 8) {
            // Eight rows on the way at a time.
            float sum[8];
#pragma unroll
            for (int i = 0; i < 8; i++) sum[i] = 0.0f;
            for (u32 k = lane * 4; k < dim; k += 128) {
                const float4 q = load4(of_query, k, dim, vec4);
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    const float4 x = load4(piece.rows + (u64)min(top + group + i, to - 1) * dim, k, dim, vec4);
                    sum[i] = accumulate<SCORE>(sum[i], q.x, x.x);
                    sum[i] = accumulate<SCORE>(sum[i], q.y, x.y);
                    sum[i] = accumulate<SCORE>(sum[i], q.z, x.z);
                    sum[i] = accumulate<SCORE>(sum[i], q.w, x.w);
                }
            }
#pragma unroll
            for (int i = 0; i < 8; i++) {
                for (int apart = 16; apart > 0; apart /= 2) sum[i] += __shfl_xor_sync(ALL_LANES, sum[i], apart);
                if (lane == group + i) score = sum[i];
            }
        }
        const u32 row = top + lane;
        if (row < to) score += begin<SCORE>(scan, piece, row);
        const u32 order = ordered(score);
        const u64 entry = (u64)order << 32 | (piece.first + row);
        const bool passes = row < to && is_finite(score) && order <= read_threshold(scan, query) && entry < worst;
        best.insert_all(entry, passes, keep, lane);
        worst = best.at(keep - 1);
        if (lane == 0) tighten(scan, query, worst);
    }
    append(scan, query, best, lane);
}

// Queries less the mean of the centroids, `dim` numbers each.
struct Centre {
    const float* queries;
    const float* mean;
    float* out;
    u32 numbers;
    u32 dim;
};

extern "C" __global__ void __launch_bounds__(THREADS) centre(const Centre centre) {
    const u32 i = blockIdx.x * THREADS + threadIdx.x;
    if (i < centre.numbers) centre.out[i] = __fadd_rn(centre.queries[i], -centre.mean[i % centre.dim]);
}

struct Merge {
    const u32* table;
    const float* queries;
    const u32* counts;
    const u64* kept;
    // `keep` pairs of each query: the bits of the key, and the row number; then of each query the bits of the largest score kept.
    u32* out;
    // In `table`: as in Scan, and of each 32 row numbers the piece.
    u32 pieces_at;
    u32 piece_of_at;
    u32 stride;
    u32 nq;
    u32 dim;
    u32 keep;
    u32 key;
};

// The key of a row, in 16 lanes: the sum in the order of `Kernels::l2_squared`, rounded after every operation.
__device__ __forceinline__ float key_of(const float* query, const float* row, u32 dim, u32 key, int lane) {
    float sum = 0.0f;
#pragma unroll 8
    for (u32 k = lane & 15; k < dim; k += 16) {
        const float q = query[k], x = row[k], apart = __fadd_rn(q, -x);
        const float term = key == KEY_L2 ? __fmul_rn(apart, apart) : key == KEY_IP ? __fmul_rn(q, x) : fabsf(apart);
        sum = __fadd_rn(sum, term);
    }
    for (int apart = 8; apart > 0; apart /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, apart));
    if (key == KEY_IP) sum = -sum;
    return sum == sum ? sum + 0.0f : INFINITE;
}

extern "C" __global__ void __launch_bounds__(THREADS) merge(const Merge merge) {
    const int lane = threadIdx.x & 31, own = threadIdx.x >> 5;
    const u32 query = blockIdx.x * WARPS + own, keep = merge.keep;
    if (query >= merge.nq) return;
    Best best;
    best.clear();
    const u64* kept = merge.kept + (u64)query * merge.stride;
    const u32 count = min(merge.counts[query], merge.stride);
    for (u32 at = 0; at < count; at += 32) {
        const u64 mine = at + lane < count ? kept[at + lane] : NO_ENTRY;
        best.insert_all(mine, mine < best.at(keep - 1), keep, lane);
    }
    const float* of_query = merge.queries + (u64)query * merge.dim;
    u32* out = merge.out + (u64)query * keep * 2;
#pragma unroll
    for (int p = 0; p < MAX_KEEP / 32; p++) {
        if (p * 32 >= keep) break;
        // Each lane finds its row; then a half of the warp has one of two rows at a time.
        const u32 number = (u32)best.part[p];
        // Lanes without a row compare the query with itself.
        const float* mine = of_query;
        if (best.part[p] != NO_ENTRY) {
            const u32 piece_of = merge.table[merge.piece_of_at + (number >> 5)];
            const Piece piece = read_piece(merge.table + merge.pieces_at + piece_of * PIECE_WORDS);
            mine = piece.rows + (u64)(number - piece.first) * merge.dim;
        }
        float key = 0.0f;
        const int rows = min(keep - p * 32, 32u);
#pragma unroll 4
        for (int i = 0; i < rows; i += 2) {
            const float* row = (const float*)__shfl_sync(ALL_LANES, (u64)mine, i + (lane >> 4));
            const float of_row = key_of(of_query, row, merge.dim, merge.key, lane);
            // All lanes of a half have its sum: lane i takes the first, the next one the second.
            const float other = __shfl_xor_sync(ALL_LANES, of_row, 16);
            if (lane == i) key = lane < 16 ? of_row : other;
            if (lane == i + 1) key = lane < 16 ? other : of_row;
        }
        if (lane < rows) {
            out[(p * 32 + lane) * 2] = __float_as_uint(key);
            out[(p * 32 + lane) * 2 + 1] = number;
        }
    }
    const u64 worst = best.at(keep - 1);
    if (lane == 0) merge.out[(u64)merge.nq * keep * 2 + query] = __float_as_uint(unordered((u32)(worst >> 32), INFINITE));
}

// Queries by list. A bucket is a list of a wave: list l of the nearest ones is bucket l, and of all others nlist + l.
struct Lay {
    const u32* table;
    // The lists of each query: `nprobe` entries, of which `probed` are there.
    const u64* probes;
    const u32* probed;
    // In `table`: of each list its first piece, and behind the last the number of pieces.
    u32 starts_at;
    // By bucket, of zeros: its queries, and those that were placed. Then its first pair.
    u32* members;
    u32* placed;
    u32* firsts;
    // The number of tiles and the tiles of each wave.
    u32* tiles[2];
    u32* pairs;
    u32 nlist;
    u32 nprobe;
    u32 nq;
};

__device__ __forceinline__ bool read_probe(const Lay& lay, u32* query, u32* bucket) {
    const u32 i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= lay.nq * lay.nprobe) return false;
    const u32 rank = i % lay.nprobe;
    *query = i / lay.nprobe;
    if (rank >= lay.probed[*query]) return false;
    *bucket = (rank > 0 ? lay.nlist : 0) + (u32)lay.probes[i];
    return true;
}

extern "C" __global__ void __launch_bounds__(THREADS) count(const Lay lay) {
    u32 query, bucket;
    if (read_probe(lay, &query, &bucket)) atomicAdd(lay.members + bucket, 1u);
}

extern "C" __global__ void __launch_bounds__(THREADS) scatter(const Lay lay) {
    u32 query, bucket;
    if (read_probe(lay, &query, &bucket)) lay.pairs[lay.firsts[bucket] + atomicAdd(lay.placed + bucket, 1u)] = query;
}

// One block: the first pair of each bucket, and the tiles.
extern "C" __global__ void __launch_bounds__(THREADS) lay(const Lay lay) {
    extern __shared__ __align__(16) u64 shared[];
    u32(*sums)[THREADS] = (u32(*)[THREADS])shared;
    const int thread = threadIdx.x;
    const u32* starts = lay.table + lay.starts_at;
    u32 pairs = 0;
    for (int wave = 0; wave < 2; wave++) {
        // Each thread has buckets that follow each other.
        const u32 each = (lay.nlist + THREADS - 1) / THREADS;
        const u32 from = min(thread * each, lay.nlist), to = min(from + each, lay.nlist);
        const u32* members = lay.members + wave * lay.nlist;
        u32 own[2] = {0, 0};
        for (u32 list = from; list < to; list++) {
            own[0] += members[list];
            own[1] += (members[list] + TILE_QUERIES - 1) / TILE_QUERIES * (starts[list + 1] - starts[list]);
        }
        __syncthreads();
        sums[0][thread] = own[0];
        sums[1][thread] = own[1];
        __syncthreads();
        u32 pair = pairs, tile = 0, all = 0;
        for (int other = 0; other < THREADS; other++) {
            if (other < thread) {
                pair += sums[0][other];
                tile += sums[1][other];
            }
            pairs += sums[0][other];
            all += sums[1][other];
        }
        if (thread == 0) lay.tiles[wave][0] = all;
        for (u32 list = from; list < to; list++) {
            lay.firsts[wave * lay.nlist + list] = pair;
            for (u32 piece = starts[list]; piece < starts[list + 1]; piece++) {
                for (u32 first = 0; first < members[list]; first += TILE_QUERIES) {
                    u32* words = lay.tiles[wave] + 1 + tile++ * TILE_WORDS;
                    words[0] = piece;
                    words[1] = pair + first;
                    words[2] = min(members[list] - first, (u32)TILE_QUERIES);
                }
            }
            pair += members[list];
        }
    }
}

#define SCANS(NAME, SCORE)                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS, 4) scan_tile_##NAME(const Scan scan) { \
        extern __shared__ __align__(16) u64 shared[];                                     \
        tile<SCORE>(scan, shared);                                                        \
    }                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS) scan_warp_##NAME(const Scan scan) {    \
        warp<SCORE>(scan);                                                                \
    }

SCANS(product, SCORE_PRODUCT)
SCANS(l1, SCORE_L1)
