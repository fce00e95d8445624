#include "infer/hidden_states.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "kernels/tile.h"

namespace sluice::infer {
namespace {

using kernels::kTileTokens;

// Reads all of it: the file was made whole, so a short read is an error.
Result<void> ReadAll(int fd, const std::string& folder, float* buffer, uint64_t size_bytes, uint64_t offset) {
  auto* bytes = reinterpret_cast<uint8_t*>(buffer);
  for (uint64_t done = 0; done < size_bytes;) {
    const ssize_t got = pread(fd, bytes + done, size_bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return Fail(ErrorCode::kRead, fmt::format("{}: reading hidden states back from a temporary file: {}", folder,
                                                got < 0 ? std::strerror(errno) : "it ends too early"));
    }
    done += static_cast<uint64_t>(got);
  }
  return {};
}

std::span<const uint8_t> Bytes(const float* values, uint64_t count) {
  return {reinterpret_cast<const uint8_t*>(values), count * sizeof(float)};
}

}  // namespace

uint64_t HiddenStates::SizeBytes(uint64_t num_tiles, uint64_t hidden) {
  return num_tiles * hidden * kTileTokens * sizeof(float);
}

HiddenStates::HiddenStates(uint64_t num_tiles, uint64_t hidden)
    : num_tiles_(num_tiles), hidden_(hidden), tile_floats_(hidden * kTileTokens) {}

Result<HiddenStates> HiddenStates::InMemory(uint64_t num_tiles, uint64_t hidden, MemoryBudget* budget) {
  HiddenStates states(num_tiles, hidden);
  SLUICE_ASSIGN(states.memory_, FloatArena::Make(num_tiles * states.tile_floats_, "hidden states", budget));
  return states;
}

Result<HiddenStates> HiddenStates::InFile(uint64_t num_tiles, uint64_t hidden) {
  HiddenStates states(num_tiles, hidden);
  const char* folder = std::getenv("TMPDIR");
  // Not /tmp, which is memory on many systems.
  states.folder_ = folder != nullptr && *folder != '\0' ? folder : "/var/tmp";
  const auto fail = [](Error error) {
    return Fail(std::move(error).In("hidden states (set TMPDIR to a folder with room, on a disk)"));
  };
  if (auto space = io::CheckFreeSpace(states.folder_, SizeBytes(num_tiles, hidden)); !space) {
    return fail(std::move(space.error()));
  }
  auto file = io::OpenToWrite(states.folder_, O_TMPFILE | O_RDWR);
  if (!file) return fail(std::move(file.error()));
  states.file_ = std::move(*file);
  SLUICE_TRY(io::Truncate(states.file_.get(), states.folder_, SizeBytes(num_tiles, hidden)));
  return states;
}

Result<void> HiddenStates::WriteRow(uint64_t tile, uint64_t lane, const float* row) {
  SLUICE_CHECK(tile < num_tiles_ && lane < kTileTokens);
  const uint64_t at = tile * tile_floats_ + lane * hidden_;
  if (!in_file()) {
    std::memcpy(memory_.data() + at, row, hidden_ * sizeof(float));
    return {};
  }
  return io::WriteAll(file_.get(), folder_, Bytes(row, hidden_), at * sizeof(float));
}

Result<float*> HiddenStates::Load(uint64_t begin, uint64_t count, float* buffer) {
  SLUICE_CHECK(begin + count <= num_tiles_);
  if (!in_file()) return memory_.data() + begin * tile_floats_;
  const uint64_t tile_bytes = tile_floats_ * sizeof(float);
  SLUICE_TRY(ReadAll(file_.get(), folder_, buffer, count * tile_bytes, begin * tile_bytes));
  return buffer;
}

Result<void> HiddenStates::Store(uint64_t begin, uint64_t count, const float* tiles) {
  if (!in_file()) return {};
  return io::WriteAll(file_.get(), folder_, Bytes(tiles, count * tile_floats_), begin * tile_floats_ * sizeof(float));
}

}  // namespace sluice::infer
