// Memory for NumPy's arrays: blocks that begin a cache line, and are used again.
//
//     allocate(size)      the block freed last among those of its size class, else one from the system
//     release(data)       back to its class, for the next array of that size
//
// A block is 64 bytes of Head, then the data. Sizes are rounded up to one of eight steps a doubling, so that
// arrays of about one size share blocks. What lies idle is never more than was once in use at the same time;
// then whole classes are given back to the system, in turn.
//
// Nobody ever waits here: whoever finds the lists taken by another thread goes to the system instead, and so
// does a child that was forked while they were taken.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace {

constexpr size_t LINE = 64;
constexpr int CLASSES = 8 * 64;

struct Head {
    void* whole;  // what the system gave
    Head* next;   // of the same class, while it lies idle
    size_t room;  // bytes of data
    int kind;     // the class
};
static_assert(sizeof(Head) <= LINE, "the data begin the line after it");

std::atomic_flag taken = ATOMIC_FLAG_INIT;
std::atomic<size_t> used{0}, most{0};  // bytes in arrays: now, and at most
Head* idle[CLASSES];
size_t lying = 0;  // bytes that lie idle
int hand = 0;      // the class that is given back next

struct Lists {  // the lists, if nobody else has them
    bool mine = !taken.test_and_set(std::memory_order_acquire);
    ~Lists() {
        if (mine) taken.clear(std::memory_order_release);
    }
};

char* data_of(Head* head) { return (char*)head + LINE; }
Head* head_of(void* data) { return (Head*)((char*)data - LINE); }

// The class of a size, and the size of its blocks: multiples of 64 bytes up to 512, then eighths of a doubling.
int class_of(size_t size, size_t* room) {
    size_t lines = size ? (size + LINE - 1) / LINE : 1;
    int shift = 0;
    while (lines > 16) {
        lines = (lines + 1) / 2;
        shift++;
    }
    *room = (lines << shift) * LINE;
    return lines <= 8 ? (int)lines - 1 : 8 * shift + (int)lines - 1;
}

void give_back(int kind) {
    while (Head* head = idle[kind]) {
        idle[kind] = head->next;
        lying -= head->room;
        std::free(head->whole);
    }
}

Head* from_system(size_t room, int kind, bool zeros) {
    const size_t bytes = room + 2 * LINE;
    if (bytes < room) return nullptr;
    char* whole = (char*)(zeros ? std::calloc(bytes, 1) : std::malloc(bytes));
    if (!whole) return nullptr;
    const uintptr_t start = ((uintptr_t)whole + LINE - 1) / LINE * LINE;
    Head* head = (Head*)start;
    *head = Head{whole, nullptr, room, kind};
#ifdef MADV_HUGEPAGE
    if (room >= (size_t(1) << 22)) {  // as NumPy asks for its own large arrays
        const uintptr_t page = 4096, first = (start + page - 1) / page * page;
        madvise((void*)first, (start + room - first) / page * page, MADV_HUGEPAGE);
    }
#endif
    return head;
}

void* allocate(size_t size, bool zeros) {
    size_t room;
    if (size > SIZE_MAX / 4) return nullptr;
    const int kind = class_of(size, &room);
    Head* head = nullptr;
    {
        Lists lists;
        if (lists.mine && (head = idle[kind])) {
            idle[kind] = head->next;
            lying -= room;
        }
    }
    if (head) {
        if (zeros) std::memset(data_of(head), 0, size);
    } else {
        head = from_system(room, kind, zeros);
        if (!head) {  // with what lies idle there may be enough
            Lists lists;
            for (int k = 0; lists.mine && k < CLASSES; k++) give_back(k);
            head = from_system(room, kind, zeros);
        }
        if (!head) return nullptr;
    }
    const size_t now = used.fetch_add(room, std::memory_order_relaxed) + room;
    size_t before = most.load(std::memory_order_relaxed);
    while (before < now && !most.compare_exchange_weak(before, now, std::memory_order_relaxed)) {}
    return data_of(head);
}

void release(void* data) {
    Head* head = head_of(data);
    used.fetch_sub(head->room, std::memory_order_relaxed);
    Lists lists;
    if (!lists.mine) return std::free(head->whole);
    const size_t limit = most.load(std::memory_order_relaxed);
    for (int k = 0; k < CLASSES && lying + head->room > limit; k++) {
        give_back(hand);
        hand = (hand + 1) % CLASSES;
    }
    head->next = idle[head->kind];
    idle[head->kind] = head;
    lying += head->room;
}

// NumPy's table of these functions (numpy/ndarraytypes.h, version 1)

struct Handler {
    char name[127];
    uint8_t version;
    void* context;
    void* (*malloc)(void*, size_t);
    void* (*calloc)(void*, size_t, size_t);
    void* (*realloc)(void*, void*, size_t);
    void (*free)(void*, void*, size_t);
};

void* numpy_malloc(void*, size_t size) { return allocate(size, false); }

void* numpy_calloc(void*, size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) return nullptr;
    return allocate(count * size, true);
}

void* numpy_realloc(void*, void* data, size_t size) {
    if (!data) return allocate(size, false);
    const size_t before = head_of(data)->room;
    if (size <= before && size > before / 2) return data;
    void* other = allocate(size, false);
    if (!other) return nullptr;
    std::memcpy(other, data, size < before ? size : before);
    release(data);
    return other;
}

void numpy_free(void*, void* data, size_t) {
    if (data) release(data);
}

Handler handler = {"minigrad", 1, nullptr, numpy_malloc, numpy_calloc, numpy_realloc, numpy_free};

}  // namespace

extern "C" void* table() { return &handler; }

extern "C" void counts(size_t* three) {
    Lists lists;
    three[0] = used.load();
    three[1] = most.load();
    three[2] = lying;
}

// Everything idle goes back to the system, and the limit is what is in use now.
extern "C" void empty() {
    Lists lists;
    if (!lists.mine) return;
    for (int k = 0; k < CLASSES; k++) give_back(k);
    most.store(used.load());
}
