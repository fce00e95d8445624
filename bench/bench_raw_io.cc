// bench_raw_io: what the disk itself gives to the access pattern of a merge, without any of sluice's own code: N files
// are read front to back in lockstep while one is written. Every figure in RESULTS.md stands beside one of these, taken
// in the same run.
//
//   bench_raw_io FILE...                     reads only
//   bench_raw_io --write OUT FILE...         and one output as long as the longest input, removed afterwards
//   bench_raw_io --random N --block-kib 8 --depth 32 FILE...   N reads at places drawn at random, equally likely over
//   all
//                                            bytes: the pattern of a fingerprint
//   bench_raw_io --write OUT --passes 2 ...  every block is read twice before its output block is written (what a fact
//   over
//                                            whole tensors costs where nothing is held)
//
// O_DIRECT in blocks of 1 MiB from a huge-page arena, (N + 1) x depth requests in flight, io_uring; a few threads with
// pread and pwrite where the kernel refuses a ring. One JSON object on stdout; rates are 10^9 bytes in and out a
// second.
#include <fcntl.h>
#include <liburing.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>

namespace {

[[noreturn]] void Die(const std::string& what, int reason) {
  std::fprintf(stderr, "bench_raw_io: %s: %s\n", what.c_str(), std::strerror(reason));
  std::exit(3);
}

struct File {
  std::string path;
  int fd;
  uint64_t size_bytes;
};

struct Job {
  uint32_t file;
  bool write;
  uint64_t offset;
};

// Opened without O_DIRECT where the file system knows no such thing; *direct says so.
int OpenFile(const std::string& path, int flags, bool* direct) {
  int fd = open(path.c_str(), flags | O_DIRECT | O_CLOEXEC, 0644);
  if (fd < 0 && errno == EINVAL) {
    *direct = false;
    fd = open(path.c_str(), flags | O_CLOEXEC, 0644);
  }
  if (fd < 0) Die(path, errno);
  return fd;
}

// Blocks in the order of a merge: block b of every input, `passes` times over a window of blocks, then block b of the
// output.
std::vector<Job> MakeJobs(const std::vector<File>& files, bool write, int passes, uint64_t block,
                          uint64_t window_blocks) {
  uint64_t longest = 0;
  for (const File& f : files) longest = std::max(longest, f.size_bytes);
  const uint64_t blocks = (longest + block - 1) / block;
  const auto output = static_cast<uint32_t>(files.size());
  std::vector<Job> jobs;
  for (uint64_t begin = 0; begin < blocks; begin += window_blocks) {
    const uint64_t end = std::min(blocks, begin + window_blocks);
    for (int pass = 0; pass < passes; ++pass) {
      for (uint64_t b = begin; b < end; ++b) {
        for (uint32_t i = 0; i < output; ++i) {
          if (b * block < files[i].size_bytes) jobs.push_back({i, false, b * block});
        }
        if (write && pass + 1 == passes) jobs.push_back({output, true, b * block});
      }
    }
  }
  return jobs;
}

// Reads of a block each at multiples of 4 KiB, of every file as many as its share of all bytes.
std::vector<Job> MakeRandomJobs(const std::vector<File>& files, uint64_t count, uint64_t block) {
  constexpr uint64_t kAlignment = 4096;
  std::vector<uint64_t> places;
  for (const File& f : files) {
    const uint64_t before = places.empty() ? 0 : places.back();
    places.push_back(before + (f.size_bytes >= block ? (f.size_bytes - block) / kAlignment + 1 : 0));
  }
  std::mt19937_64 generator(std::random_device{}());
  std::uniform_int_distribution<uint64_t> any(0, places.back() - 1);
  std::vector<Job> jobs;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t place = any(generator);
    const auto file = static_cast<uint32_t>(std::upper_bound(places.begin(), places.end(), place) - places.begin());
    jobs.push_back({file, false, (place - (file == 0 ? 0 : places[file - 1])) * kAlignment});
  }
  return jobs;
}

// Returns whether a ring could be had; bytes moved are added to *in and *out.
bool RunRing(const std::vector<Job>& jobs, const std::vector<File>& files, uint8_t* arena, uint64_t block,
             unsigned depth, uint64_t* in, uint64_t* out) {
  io_uring ring;
  if (io_uring_queue_init(depth, &ring, 0) != 0) return false;
  std::vector<unsigned> free_slots(depth);
  for (unsigned i = 0; i < depth; ++i) free_slots[i] = depth - 1 - i;
  std::vector<size_t> job_of(depth);
  size_t next = 0, in_flight = 0;
  while (next < jobs.size() || in_flight > 0) {
    while (next < jobs.size() && !free_slots.empty()) {
      const unsigned slot = free_slots.back();
      free_slots.pop_back();
      const Job& job = jobs[next];
      io_uring_sqe* sqe = io_uring_get_sqe(&ring);
      uint8_t* buffer = arena + slot * block;
      if (job.write) {
        io_uring_prep_write(sqe, files[job.file].fd, buffer, static_cast<unsigned>(block), job.offset);
      } else {
        io_uring_prep_read(sqe, files[job.file].fd, buffer, static_cast<unsigned>(block), job.offset);
      }
      io_uring_sqe_set_data64(sqe, slot);
      job_of[slot] = next++;
      ++in_flight;
    }
    const int submitted = io_uring_submit_and_wait(&ring, 1);
    if (submitted < 0 && submitted != -EINTR) Die("io_uring_submit_and_wait", -submitted);
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(&ring, &cqe) == 0) {
      const auto slot = static_cast<unsigned>(io_uring_cqe_get_data64(cqe));
      const Job& job = jobs[job_of[slot]];
      if (cqe->res < 0) Die(files[job.file].path, -cqe->res);
      // A short transfer elsewhere than at a file's end would make the figure a lie.
      const uint64_t expected = job.write ? block : std::min(block, files[job.file].size_bytes - job.offset);
      if (static_cast<uint64_t>(cqe->res) < expected) Die(files[job.file].path + ": short transfer", EIO);
      (job.write ? *out : *in) += static_cast<uint64_t>(cqe->res);
      io_uring_cqe_seen(&ring, cqe);
      free_slots.push_back(slot);
      --in_flight;
    }
  }
  io_uring_queue_exit(&ring);
  return true;
}

void RunThreads(const std::vector<Job>& jobs, const std::vector<File>& files, uint8_t* arena, uint64_t block,
                unsigned depth, uint64_t* in, uint64_t* out) {
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> read_bytes{0}, written_bytes{0};
  std::vector<std::thread> threads;
  for (unsigned slot = 0; slot < std::min(depth, 16u); ++slot) {
    threads.emplace_back([&, slot] {
      uint8_t* buffer = arena + slot * block;
      for (size_t i = next++; i < jobs.size(); i = next++) {
        const Job& job = jobs[i];
        const int fd = files[job.file].fd;
        const auto offset = static_cast<off_t>(job.offset);
        const ssize_t n = job.write ? pwrite(fd, buffer, block, offset) : pread(fd, buffer, block, offset);
        if (n < 0) Die(files[job.file].path, errno);
        (job.write ? written_bytes : read_bytes) += static_cast<uint64_t>(n);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  *in += read_bytes;
  *out += written_bytes;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> paths;
  std::string write_path;
  uint64_t block_kib = 1024, random_reads = 0;
  unsigned depth = 4;
  int passes = 1;
  uint64_t window_mib = 293;  // a matrix of Yi-34B's MLP in bf16: what is read twice before it is written
  bool threads_only = false;
  CLI::App app("Raw I/O baseline: reads files in lockstep, and writes one beside them");
  app.add_option("files", paths, "files to read")->required()->check(CLI::ExistingFile);
  app.add_option("--write", write_path, "also write this file (removed afterwards)");
  app.add_option("--block-kib", block_kib, "size of a transfer")->check(CLI::Range(4, 65536));
  app.add_option("--depth", depth, "transfers in flight for each stream")->check(CLI::Range(1, 64));
  app.add_option("--random", random_reads, "so many reads at places drawn at random, instead of all in a row");
  app.add_option("--passes", passes, "times that each block is read")->check(CLI::Range(1, 8));
  app.add_option("--window-mib", window_mib, "with --passes: how much of a stream is read before it is read again")
      ->check(CLI::Range(1, 1 << 20));
  app.add_flag("--threads", threads_only, "pread and pwrite on threads instead of io_uring");
  CLI11_PARSE(app, argc, argv);

  const uint64_t block = block_kib * 1024 / 4096 * 4096;
  bool direct = true;
  std::vector<File> files;
  uint64_t longest = 0;
  for (const std::string& path : paths) {
    const int fd = OpenFile(path, O_RDONLY, &direct);
    struct stat info;
    if (fstat(fd, &info) != 0) Die(path, errno);
    files.push_back({path, fd, static_cast<uint64_t>(info.st_size)});
    longest = std::max(longest, files.back().size_bytes);
  }
  const bool write = !write_path.empty();
  const std::vector<Job> jobs =
      random_reads > 0 ? MakeRandomJobs(files, random_reads, block)
                       : MakeJobs(files, write, passes, block, std::max<uint64_t>(1, (window_mib << 20) / block));
  if (write) files.push_back({write_path, OpenFile(write_path, O_WRONLY | O_CREAT | O_TRUNC, &direct), longest});

  const auto in_flight = static_cast<unsigned>(depth * files.size());
  constexpr uint64_t kHugePage = 2u << 20;
  const uint64_t arena_bytes = (in_flight * block + kHugePage - 1) / kHugePage * kHugePage;
  void* memory = nullptr;
  if (posix_memalign(&memory, kHugePage, arena_bytes) != 0) Die("arena", ENOMEM);
  madvise(memory, arena_bytes, MADV_HUGEPAGE);
  auto* arena = static_cast<uint8_t*>(memory);
  std::memset(arena, 0x3c, arena_bytes);  // first touch is no part of what the disk can do

  uint64_t in = 0, out = 0;
  const auto start = std::chrono::steady_clock::now();
  const bool ring = !threads_only && RunRing(jobs, files, arena, block, in_flight, &in, &out);
  if (!ring) RunThreads(jobs, files, arena, block, in_flight, &in, &out);
  if (write) {
    const int fd = files.back().fd;
    if (ftruncate(fd, static_cast<off_t>(longest)) != 0 || fsync(fd) != 0) Die(write_path, errno);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (write) unlink(write_path.c_str());
  std::printf(
      "{\"mode\": \"%s\", \"direct\": %s, \"streams\": %zu, \"passes\": %d, \"block_bytes\": %llu, \"read_bytes\": "
      "%llu, "
      "\"written_bytes\": %llu, \"seconds\": %.3f, \"gb_per_second\": %.3f}\n",
      ring ? "io_uring" : "threads", direct ? "true" : "false", paths.size(), passes,
      static_cast<unsigned long long>(block), static_cast<unsigned long long>(in), static_cast<unsigned long long>(out),
      seconds, static_cast<double>(in + out) / seconds / 1e9);
  std::free(memory);
  return 0;
}
