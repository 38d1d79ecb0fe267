// As much of CUDA as kernels.cu uses, for plain C++ on a CPU: to run the kernels where there is no GPU.
//
// The threads of a block are fibers of one thread of the host. A fiber runs until it meets a barrier of its block or of its warp;
// which one runs next is drawn, so that a barrier that is missing shows. A barrier that not all threads reach is reported, and one that
// is another for some of them.
// Shared memory starts with garbage.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __device__
// What a kernel only guards against is an error here.
#define REFUSE(text) (fprintf(stderr, "%s\n", text), exit(3))
#define __global__
#define __shared__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n)

struct Index {
    unsigned x;
};
static Index threadIdx, blockIdx;

struct alignas(16) float4 {
    float x, y, z, w;
};

static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
// Rounded one by one, whatever the compiler would like to contract.
static inline float __fadd_rn(float a, float b) {
    volatile float sum = a + b;
    return sum;
}
static inline float __fmul_rn(float a, float b) {
    volatile float product = a * b;
    return product;
}
static inline int __ffs(unsigned word) { return __builtin_ffs(word); }
static inline int __popc(unsigned word) { return __builtin_popcount(word); }

template <typename T>
static inline T min(T a, T b) {
    return a < b ? a : b;
}
template <typename T>
static inline T max(T a, T b) {
    return a > b ? a : b;
}
static inline unsigned atomicAdd(unsigned* at, unsigned more) {
    unsigned old = *at;
    *at += more;
    return old;
}
static inline unsigned atomicMax(unsigned* at, unsigned other) {
    unsigned old = *at;
    *at = max(old, other);
    return old;
}

namespace emulator {

enum class State { Ready, AtWarp, AtBlock, Done };

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    State state;
    // Where the barrier of its block is that it waits at.
    int line;
    // Exchanges of its warp so far: two buffers take turns, since one lane can be ahead by one.
    unsigned exchanges;
};

static const size_t STACK = 256 << 10;
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static unsigned current;
static unsigned long long lanes[32][2][32];
static int any_of_block[2];
static unsigned barriers;
static std::function<void()> body;
static uint64_t seed = 1;

static inline unsigned draw(unsigned below) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 33) % below;
}

static void wait(State state) {
    fibers[current].state = state;
    swapcontext(&fibers[current].context, &scheduler);
}

static void enter() {
    body();
    fibers[current].state = State::Done;
    swapcontext(&fibers[current].context, &scheduler);
}

// What all lanes of the warp gave, in the order of lanes.
static const unsigned long long* exchange(unsigned long long mine) {
    Fiber& fiber = fibers[current];
    unsigned long long* values = lanes[current / 32][fiber.exchanges++ & 1];
    values[current % 32] = mine;
    wait(State::AtWarp);
    return values;
}

static bool all_wait(size_t from, size_t to, State state) {
    bool any = false;
    for (size_t i = from; i < to; i++) {
        if (fibers[i].state == State::Done) continue;
        if (fibers[i].state != state) return false;
        any = true;
    }
    return any;
}

static void run_block(unsigned threads, unsigned block) {
    fibers.resize(threads);
    barriers = 0;
    any_of_block[0] = any_of_block[1] = 0;
    for (unsigned i = 0; i < threads; i++) {
        Fiber& fiber = fibers[i];
        if (!fiber.stack) fiber.stack.reset(new char[STACK]);
        fiber.state = State::Ready;
        fiber.exchanges = 0;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = &scheduler;
        makecontext(&fiber.context, enter, 0);
    }
    blockIdx.x = block;
    for (unsigned rounds = 0;; rounds++) {
        if (rounds > 10'000'000) {
            fprintf(stderr, "block %u: it does not end\n", block);
            exit(3);
        }
        std::vector<unsigned> ready;
        for (unsigned i = 0; i < threads; i++)
            if (fibers[i].state == State::Ready) ready.push_back(i);
        for (size_t i = ready.size(); i > 1; i--) std::swap(ready[i - 1], ready[draw(i)]);
        for (unsigned i : ready) {
            current = i;
            threadIdx.x = i;
            swapcontext(&scheduler, &fibers[i].context);
        }
        bool moved = !ready.empty();
        for (size_t from = 0; from < threads; from += 32) {
            size_t to = std::min<size_t>(from + 32, threads);
            if (all_wait(from, to, State::AtWarp)) {
                for (size_t i = from; i < to; i++)
                    if (fibers[i].state == State::AtWarp) fibers[i].state = State::Ready;
                moved = true;
            }
        }
        if (all_wait(0, threads, State::AtBlock)) {
            int line = 0;
            for (Fiber& fiber : fibers) {
                if (fiber.state != State::AtBlock) continue;
                if (line != 0 && fiber.line != line) {
                    fprintf(stderr, "block %u: threads wait at the barriers of lines %d and %d\n", block, line, fiber.line);
                    exit(3);
                }
                line = fiber.line;
                fiber.state = State::Ready;
            }
            any_of_block[++barriers & 1] = 0;
            moved = true;
        }
        bool done = true;
        for (Fiber& fiber : fibers) done &= fiber.state == State::Done;
        if (done) return;
        if (!moved) {
            fprintf(stderr, "block %u: a barrier is not reached by all threads\n", block);
            exit(3);
        }
    }
}

}  // namespace emulator

static inline void sync_block(int line) {
    emulator::fibers[emulator::current].line = line;
    emulator::wait(emulator::State::AtBlock);
}
static inline int sync_block_or(int line, int mine) {
    int* any = &emulator::any_of_block[emulator::barriers & 1];
    *any |= mine != 0;
    sync_block(line);
    return *any;
}
#define __syncthreads() sync_block(__LINE__)
#define __syncthreads_or(mine) sync_block_or(__LINE__, mine)
static inline void __syncwarp() { emulator::exchange(0); }
static inline unsigned __ballot_sync(unsigned, int mine) {
    const unsigned long long* all = emulator::exchange(mine != 0);
    unsigned ballot = 0;
    for (int lane = 0; lane < 32; lane++) ballot |= (unsigned)all[lane] << lane;
    return ballot;
}
static inline unsigned long long __shfl_sync(unsigned, unsigned long long mine, int source) {
    return emulator::exchange(mine)[source];
}
static inline float __shfl_xor_sync(unsigned, float mine, int apart) {
    unsigned bits = (unsigned)emulator::exchange(__float_as_uint(mine))[(threadIdx.x & 31) ^ apart];
    float theirs;
    memcpy(&theirs, &bits, 4);
    return theirs;
}
