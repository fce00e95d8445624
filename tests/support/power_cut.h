// PowerCut: what a disk has after the power went. While it lives it sees every call by which output comes to be, keeps
// what was synced, and from the n-th call on lets none happen. Restore then puts a folder into the state in which a
// machine may find it: the bytes that a file had at its last sync, the names that a folder had at its own, and of all
// the rest as much or as little as `Kept` says.
//
//   tests::PowerCut disk(dir.path(), 17);
//   ... whatever writes below dir: it fails at its 17th call ...
//   if (disk.happened()) disk.Restore(tests::PowerCut::Kept::kNothing, seed);
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <tuple>

#include "io/write_calls.h"

namespace sluice::tests {

class PowerCut final : public io::WriteFaults {
 public:
  // Of what was never synced: nothing; all names and no bytes; all names, and each block of 4 KiB or not, by chance.
  enum class Kept { kNothing, kNames, kNamesAndSomeBlocks };

  // All that is below `folder` is on the disk to begin with.
  PowerCut(std::string folder, int nth) : folder_(std::move(folder)), nth_(nth) {
    synced_ = Look();
    io::SetWriteFaults(this);
  }
  ~PowerCut() override { io::SetWriteFaults(nullptr); }

  int Before(io::WriteCall call, const std::string& path) override {
    std::lock_guard lock(mutex_);
    ++calls_;
    if (calls_ == nth_) at_the_end_ = Look();
    if (calls_ >= nth_) return EIO;
    // Nothing that is written while the sync is under way is promised.
    if (call == io::WriteCall::kSync) LookAt(path, &synced_);
    return 0;
  }

  bool happened() const { return calls_ >= nth_; }

  void Restore(Kept kept, uint64_t seed) {
    io::SetWriteFaults(nullptr);
    std::mt19937_64 random(seed);
    const Id root = IdOf(folder_);
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) std::filesystem::remove_all(entry.path());
    const State& names = kept == Kept::kNothing ? synced_ : at_the_end_;
    const std::function<void(const Id&, const std::string&)> restore = [&](const Id& folder, const std::string& path) {
      const auto found = names.folders.find(folder);
      if (found == names.folders.end()) return;
      for (const auto& [name, entry] : found->second) {
        const std::string child = path + "/" + name;
        if (entry.is_folder) {
          std::filesystem::create_directory(child);
          restore(entry.id, child);
        } else {
          std::ofstream(child, std::ios::binary) << Bytes(entry.id, kept, &random);
        }
      }
    };
    restore(root, folder_);
  }

 private:
  using Id = std::tuple<uint64_t, int64_t, uint32_t>;  // an inode, and when it was made: numbers are used again
  struct Entry {
    Id id;
    bool is_folder;
  };
  struct State {
    std::map<Id, std::string> files;
    std::map<Id, std::map<std::string, Entry>> folders;
  };

  static Id IdOf(const std::string& path) {
    struct statx status = {};
    if (statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &status) != 0) return {};
    return {status.stx_ino, status.stx_btime.tv_sec, status.stx_btime.tv_nsec};
  }

  static void LookAt(const std::string& path, State* state) {
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) {
      auto& entries = state->folders[IdOf(path)];
      entries.clear();
      for (std::filesystem::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
        const std::string child = it->path().string();
        entries[it->path().filename().string()] = {IdOf(child), std::filesystem::is_directory(child, error)};
      }
    } else {
      std::ifstream file(path, std::ios::binary);
      if (!file) return;
      state->files[IdOf(path)] = {std::istreambuf_iterator<char>(file), {}};
    }
  }

  State Look() const {
    State state;
    LookAt(folder_, &state);
    std::error_code error;
    for (std::filesystem::recursive_directory_iterator it(folder_, error), end; !error && it != end;
         it.increment(error)) {
      LookAt(it->path().string(), &state);
    }
    return state;
  }

  std::string Bytes(const Id& id, Kept kept, std::mt19937_64* random) const {
    const auto find = [&](const State& state) {
      const auto found = state.files.find(id);
      return found == state.files.end() ? std::string() : found->second;
    };
    std::string bytes = find(synced_);
    if (kept != Kept::kNamesAndSomeBlocks) return bytes;
    const std::string last = find(at_the_end_);
    if ((*random)() % 2 == 0) bytes.resize(last.size());  // the length is a name's kind of thing
    constexpr size_t kBlock = 4096;
    for (size_t at = 0; at < std::min(bytes.size(), last.size()); at += kBlock) {
      if ((*random)() % 2 == 0) bytes.replace(at, kBlock, last, at, std::min(kBlock, bytes.size() - at));
    }
    return bytes;
  }

  const std::string folder_;
  const int nth_;
  std::mutex mutex_;
  int calls_ = 0;
  State synced_, at_the_end_;
};

}  // namespace sluice::tests
