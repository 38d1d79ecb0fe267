// Runs the kernels as cuda.rs launches them, on the emulator: run IN OUT.
//
// IN is an array of 32-bit words: the numbers of HEADER, then the plan, the queries, and the pieces' numbers (rows, then half
// norms). In the plan, the addresses of a piece are places among those numbers. OUT is the words of the answer.
#include "emulate.h"

#include "../../src/device/fused/kernels.cu"

enum { PLAN, QUERIES, NUMBERS, PIECES_AT, PIECES, PAIRS_AT, WANTED_AT, OFFSETS_AT, SLOTS, NQ, DIM, KEEP, SCORE, SEED, WAVES, HEADER = WAVES + 8 };

alignas(16) u64 shared[16 << 10];

static void launch(unsigned blocks, size_t bytes, std::function<void()> body) {
    if (bytes > sizeof shared) exit(4);
    emulator::body = body;
    for (unsigned block = 0; block < blocks; block++) {
        memset(shared, 0xa5, sizeof shared);
        emulator::run_block(THREADS, block);
    }
}

template <typename Tile, typename Warp>
static void scan(const u32* h, const u32* plan, const float* queries, u32* thresholds, u64* slots, Tile tile, Warp warp) {
    int dim = h[DIM], keep = h[KEEP];
    for (int wave = 0; wave < 2; wave++) {
        const u32* at = h + WAVES + wave * 4;
        launch(at[1], (sizeof(TileMemory) + 7) / 8 * 8 + TILE_QUERIES * keep * 8,
               [=] { tile(plan, h[PIECES_AT], at[0], h[PAIRS_AT], h[WANTED_AT], queries, dim, keep, thresholds, slots); });
        launch((at[3] + WARPS - 1) / WARPS, WARPS * keep * 8,
               [=] { warp(plan, h[PIECES_AT], at[2], at[3], h[WANTED_AT], queries, dim, keep, thresholds, slots); });
    }
}

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    FILE* in = fopen(argv[1], "rb");
    if (!in) return 2;
    std::vector<u32> header(HEADER);
    auto read = [&](std::vector<u32>& into) { return fread(into.data(), 4, into.size(), in) == into.size(); };
    if (!read(header)) return 2;
    const u32* h = header.data();
    // Of exactly their sizes, so that a reader behind their ends is seen by a sanitizer. On a GPU rows and queries are aligned
    // as an allocator aligns.
    std::vector<u32> plan(h[PLAN]), queries(h[QUERIES]), numbers(h[NUMBERS]);
    if (!read(plan) || !read(queries) || !read(numbers)) return 2;
    emulator::seed = h[SEED];
    std::vector<std::unique_ptr<float[]>> pieces;
    auto copy = [&](u64 from, size_t len) {
        pieces.emplace_back(new float[len]);
        memcpy(pieces.back().get(), numbers.data() + from, len * 4);
        return (u64)pieces.back().get();
    };
    for (u32 i = 0; i < h[PIECES]; i++) {
        u32* piece = plan.data() + h[PIECES_AT] + i * PIECE_WORDS;
        u64 rows = copy(piece[0], (size_t)piece[5] * h[DIM]), half_norms = copy(piece[2], piece[5]);
        u32 words[4] = {(u32)rows, (u32)(rows >> 32), (u32)half_norms, (u32)(half_norms >> 32)};
        memcpy(piece, words, sizeof words);
    }
    int keep = h[KEEP];
    std::unique_ptr<u32[]> thresholds(new u32[h[NQ]]());
    std::unique_ptr<u64[]> slots(new u64[(size_t)h[SLOTS] * keep]);
    memset(slots.get(), 0x5a, (size_t)h[SLOTS] * keep * 8);
    std::vector<u32> out((size_t)h[NQ] * keep * 2);
    const float* of_queries = (const float*)queries.data();
    switch (h[SCORE]) {
        case SCORE_L2: scan(h, plan.data(), of_queries, thresholds.get(), slots.get(), scan_tile_l2, scan_warp_l2); break;
        case SCORE_IP: scan(h, plan.data(), of_queries, thresholds.get(), slots.get(), scan_tile_ip, scan_warp_ip); break;
        default: scan(h, plan.data(), of_queries, thresholds.get(), slots.get(), scan_tile_l1, scan_warp_l1);
    }
    launch((h[NQ] + WARPS - 1) / WARPS, WARPS * keep * 8,
           [&] { merge(plan.data(), h[OFFSETS_AT], h[NQ], keep, slots.get(), out.data()); });
    FILE* answer = fopen(argv[2], "wb");
    if (!answer || fwrite(out.data(), 4, out.size(), answer) != out.size()) return 2;
    return fclose(answer) == 0 ? 0 : 2;
}
