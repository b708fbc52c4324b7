// Runs a CUDA kernel on the CPU: one thread for each CUDA thread of a block, a barrier for __syncthreads(), static
// storage for __shared__. Blocks run one after the other. Slow, but the kernel's own text is executed, and with
// -fsanitize=thread a missing __syncthreads() is found. For tests only; C++20.

#include <barrier>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static

struct Place {
    unsigned x, y;
};
static thread_local Place threadIdx;
static Place blockIdx, blockDim, gridDim;
static std::unique_ptr<std::barrier<>> barrier;

static void __syncthreads() { barrier->arrive_and_wait(); }

static float __int_as_float(int b) {
    float x;
    memcpy(&x, &b, 4);
    return x;
}
static double __longlong_as_double(long long b) {
    double x;
    memcpy(&x, &b, 8);
    return x;
}

template <class Kernel> static void launch(Place grid, Place block, Kernel kernel) {
    gridDim = grid;
    blockDim = block;
    for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) {
        barrier = std::make_unique<std::barrier<>>(block.x * block.y);
        std::vector<std::thread> threads;
        for (unsigned y = 0; y < block.y; y++)
            for (unsigned x = 0; x < block.x; x++)
                threads.emplace_back([=] {
                    threadIdx = Place{x, y};
                    kernel();
                });
        for (auto& t : threads) t.join();
    }
}
