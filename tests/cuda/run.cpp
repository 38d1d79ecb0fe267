// Runs the kernels as cuda.rs launches them, on the emulator: run IN OUT.
//
// IN is an array of 32-bit words: the numbers of HEADER, then the table (and plan), the queries, and the pieces' numbers (rows, then
// half norms). In the table, the addresses of a piece are places among those numbers. OUT is the words of the answer.
#include "emulate.h"

#include "../../src/device/fused/kernels.cu"

enum {
    // Lengths.
    WORDS, QUERIES, NUMBERS,
    NQ, DIM, KEEP, SCORE, SEED,
    PIECES_AT, PIECES, WANTED_AT, PIECE_OF_AT,
    // Tasks that keep rows of a query, at most.
    TASKS,
    // A plan: where things stand in the words, and of each wave tiles and warps as (place, number).
    PAIRS_AT, ENDS_AT, WAVES,
    // Or lists to choose: their number, 0 for a plan, and the centroids, one piece. Behind the queries is the mean.
    NPROBE = WAVES + 8, NLIST, STARTS_AT, CENTROIDS_AT, ALL_AT, PIECES_MAX,
    HEADER
};

alignas(16) u64 shared[16 << 10];

static void launch(unsigned blocks, size_t bytes, std::function<void()> body) {
    if (bytes > sizeof shared) exit(4);
    emulator::body = body;
    for (unsigned block = 0; block < blocks; block++) {
        memset(shared, 0xa5, sizeof shared);
        emulator::run_block(THREADS, block);
    }
}

// What a scan works with. The room for entries is of exactly its size, so that a sanitizer sees who leaves it.
struct Room {
    std::unique_ptr<u32[]> marks;
    std::unique_ptr<u64[]> kept;
    Scan scan;

    Room(const u32* h, const u32* table, const float* queries, u32 keep, u32 tasks, u32 pieces_at, u32 wanted_at)
        : marks(new u32[2 * h[NQ]]()), kept(new u64[(size_t)h[NQ] * tasks * keep]) {
        memset(kept.get(), 0x5a, (size_t)h[NQ] * tasks * keep * 8);
        scan = Scan{table, table, queries, marks.get(), marks.get() + h[NQ], kept.get(), pieces_at, wanted_at, EACH, EACH, EACH, tasks * keep, h[NQ], h[DIM], keep};
    }
};

static void tiles(Scan scan, u32 blocks, bool l1) {
    launch(blocks, sizeof(TileMemory) + TILE_QUERIES * scan.keep * 8, [=] { l1 ? scan_tile_l1(scan) : scan_tile_product(scan); });
}

static void run_plan(const u32* h, Scan scan) {
    scan.pairs_at = h[PAIRS_AT];
    scan.ends_at = h[ENDS_AT];
    const bool l1 = h[SCORE] == KEY_L1;
    for (int wave = 0; wave < 2; wave++) {
        const u32* at = h + WAVES + wave * 4;
        scan.tasks_at = at[0];
        tiles(scan, at[1], l1);
        scan.tasks_at = at[2];
        launch((at[3] + WARPS - 1) / WARPS, 0, [=] { l1 ? scan_warp_l1(scan) : scan_warp_product(scan); });
    }
}

static void run_probe(const u32* h, const Scan& probe, Scan scan, u32* out) {
    const u32 nq = h[NQ], nprobe = h[NPROBE], nlist = h[NLIST];
    tiles(probe, (nq + TILE_QUERIES - 1) / TILE_QUERIES, false);
    auto most = [&](u32 pairs) { return (pairs + TILE_QUERIES - 1) / TILE_QUERIES * h[PIECES_MAX] + h[PIECES]; };
    const u32 wave[2] = {most(nq), most(nq * (nprobe - 1))};
    const u32 firsts = 2 * nlist, pairs = 2 * firsts, near = pairs + nq * nprobe, far = near + 1 + wave[0] * TILE_WORDS;
    std::vector<u32> work(far + 1 + wave[1] * TILE_WORDS);
    u32* w = work.data();
    const Lay lays = {scan.table, probe.kept, probe.counts, h[STARTS_AT], out + (2 * scan.keep + 1) * nq, w, w + firsts, {w + near, w + far}, w + pairs, nlist, nprobe, nq};
    const u32 each = (nq * nprobe + THREADS - 1) / THREADS;
    launch(each, 0, [&] { count(lays); });
    launch(1, 2 * 4 * THREADS, [&] { lay(lays); });
    launch(each, 0, [&] { scatter(lays); });
    scan.work = w;
    scan.pairs_at = pairs;
    const bool l1 = h[SCORE] == KEY_L1;
    scan.tasks_at = near;
    tiles(scan, wave[0], l1);
    scan.tasks_at = far;
    tiles(scan, wave[1], l1);
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
    std::vector<u32> words(h[WORDS]), queries(h[QUERIES]), numbers(h[NUMBERS]);
    if (!read(words) || !read(queries) || !read(numbers)) return 2;
    emulator::seed = h[SEED];
    std::vector<std::unique_ptr<float[]>> pieces;
    auto copy = [&](u64 from, size_t len) {
        pieces.emplace_back(new float[len]);
        memcpy(pieces.back().get(), numbers.data() + from, len * 4);
        return (u64)pieces.back().get();
    };
    auto place = [&](u32 at, u32 n) {
        for (u32* piece = words.data() + at; n > 0; n--, piece += PIECE_WORDS) {
            u64 rows = copy(piece[0], (size_t)piece[5] * h[DIM]), half_norms = copy(piece[2], piece[5]);
            u32 halves[4] = {(u32)rows, (u32)(rows >> 32), (u32)half_norms, (u32)(half_norms >> 32)};
            memcpy(piece, halves, sizeof halves);
        }
    };
    place(h[PIECES_AT], h[PIECES]);
    const u32 keep = h[KEEP], nprobe = h[NPROBE];
    const float* of_queries = (const float*)queries.data();
    Room rows(h, words.data(), of_queries, keep, h[TASKS], h[PIECES_AT], h[WANTED_AT]);
    std::vector<u32> out((size_t)h[NQ] * (2 * keep + 1) + (nprobe ? 2 * h[NLIST] : 0));
    if (nprobe) {
        place(h[CENTROIDS_AT], 1);
        const u32 of_all = h[NQ] * h[DIM];
        std::unique_ptr<float[]> centred(new float[of_all]);
        const Centre centres = {of_queries, of_queries + of_all, centred.get(), of_all, h[DIM]};
        launch((of_all + THREADS - 1) / THREADS, 0, [&] { centre(centres); });
        Room lists(h, words.data(), centred.get(), nprobe, 1, h[CENTROIDS_AT], h[ALL_AT]);
        run_probe(h, lists.scan, rows.scan, out.data());
    } else {
        run_plan(h, rows.scan);
    }
    const Scan& s = rows.scan;
    const Merge merges = {words.data(), of_queries, s.counts, s.kept, out.data(), h[PIECES_AT], h[PIECE_OF_AT], s.stride, h[NQ], h[DIM], keep, h[SCORE]};
    launch((h[NQ] + WARPS - 1) / WARPS, 0, [&] { merge(merges); });
    FILE* answer = fopen(argv[2], "wb");
    if (!answer || fwrite(out.data(), 4, out.size(), answer) != out.size()) return 2;
    return fclose(answer) == 0 ? 0 : 2;
}
