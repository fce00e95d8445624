// bench_block_writer: what io/block_writer.h costs beside the plainest way to write: 4 MiB pwrites with O_DIRECT from
// one huge-page buffer into a new file, then fsync. Runs alternate, medians are printed, one JSON object on stdout.
//
//   bench_block_writer FOLDER [--size BYTES] [--runs N]
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "base/check.h"
#include "base/units.h"
#include "io/block_writer.h"
#include "io/write_calls.h"

namespace {

using sluice::kMiB;

constexpr uint64_t kPieceBytes = kMiB;  // what a sink appends at once

uint8_t* HugePages(uint64_t size_bytes) {
  void* memory = mmap(nullptr, size_bytes + 2 * kMiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  SLUICE_CHECK(memory != MAP_FAILED);
  auto* data = reinterpret_cast<uint8_t*>(sluice::RoundUp(reinterpret_cast<uint64_t>(memory), 2 * kMiB));
  madvise(data, size_bytes, MADV_HUGEPAGE);
  std::memset(data, 0x5a, size_bytes);
  return data;
}

void Raw(const std::string& path, uint64_t size_bytes, const uint8_t* data) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_DIRECT, 0644);
  SLUICE_CHECK(fd >= 0);
  for (uint64_t at = 0; at < size_bytes; at += 4 * kMiB) {
    SLUICE_CHECK(pwrite(fd, data, 4 * kMiB, static_cast<off_t>(at)) == static_cast<ssize_t>(4 * kMiB));
  }
  SLUICE_CHECK(fsync(fd) == 0);
  close(fd);
}

void Ours(const std::string& path, uint64_t size_bytes, const uint8_t* data, bool reserve,
          const sluice::io::BlockWriter::Options& options) {
  if (reserve) SLUICE_CHECK(sluice::io::CreateAllocated(path, size_bytes));
  sluice::io::BlockWriter writer(options);
  SLUICE_CHECK(writer.Begin(path));
  for (uint64_t at = 0; at < size_bytes; at += kPieceBytes)
    SLUICE_CHECK(writer.Append({data + at % (4 * kMiB), kPieceBytes}));
  SLUICE_CHECK(writer.End());
  SLUICE_CHECK(writer.Finish());
}

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder, size_text = "1GB";
  int runs = 5;
  CLI::App app("What writing costs beside plain O_DIRECT");
  app.add_option("folder", folder)->required();
  app.add_option("--size", size_text);
  app.add_option("--runs", runs);
  CLI11_PARSE(app, argc, argv);
  const auto size = sluice::ParseSize(size_text);
  SLUICE_CHECK(size);
  const uint64_t size_bytes = sluice::RoundUp(*size, 4 * kMiB);
  const uint8_t* data = HugePages(4 * kMiB);
  const std::string path = folder + "/bench_block_writer.tmp";

  const std::vector<std::pair<std::string, std::function<void()>>> ways = {
      {"raw_direct", [&] { Raw(path, size_bytes, data); }},
      {"direct_reserved", [&] { Ours(path, size_bytes, data, true, {}); }},
      {"direct_new", [&] { Ours(path, size_bytes, data, false, {}); }},
      {"direct_4mib", [&] { Ours(path, size_bytes, data, true, {.buffer_bytes = 4 * kMiB}); }},
      {"direct_8mib", [&] { Ours(path, size_bytes, data, true, {.buffer_bytes = 8 * kMiB}); }},
      {"buffered_reserved", [&] { Ours(path, size_bytes, data, true, {.allow_direct = false}); }},
  };
  std::map<std::string, std::vector<double>> rates, cpu;
  for (int run = 0; run < runs; ++run) {
    for (const auto& [name, write] : ways) {
      const double cpu_before = CpuSeconds();
      const auto start = std::chrono::steady_clock::now();
      write();
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      rates[name].push_back(static_cast<double>(size_bytes) / seconds / 1e9);
      cpu[name].push_back((CpuSeconds() - cpu_before) / (static_cast<double>(size_bytes) / 1e9));
      unlink(path.c_str());
    }
  }
  std::string json = fmt::format("{{\"size_bytes\": {}, \"runs\": {}", size_bytes, runs);
  for (const auto& [name, write] : ways) {
    json +=
        fmt::format(", \"{}\": {{\"gb_per_second\": {:.3f}, \"of_raw\": {:.3f}, \"cpu_seconds_per_gb\": {:.3f}}}", name,
                    Median(rates[name]), Median(rates[name]) / Median(rates["raw_direct"]), Median(cpu[name]));
  }
  std::puts((json + "}").c_str());
}
