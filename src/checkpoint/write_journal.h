// WriteJournal: what is finished of an output that is being written, so that an interrupted run can be gone on with.
// docs/resume.md is the specification of the file.
//
// A record tells of bytes that are on the disk already, is synced itself before Append returns, and carries a checksum
// over all before it: what a power cut leaves of a record is no record.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "graph/fact_record.h"
#include "io/write_calls.h"
#include "kernels/sha256.h"

namespace sluice::checkpoint {

// Within the folder in which the output grows.
inline constexpr char kJournalFile[] = ".sluice-journal";

// What an output is made of and how it is laid out: a run may only go on with what was begun under the same, but for
// the item kDevices. In the order in which differences are told.
struct JournalBinding {
  struct Item {
    std::string what, value;  // "the recipe", its hash
    bool operator==(const Item&) const = default;
  };
  // Devices and inodes of the files that are read, of which keys of facts are made. Where they are others (a disk got
  // another number at a reboot), work goes on without the journal's facts.
  static constexpr char kDevices[] = "the devices of the files";
  std::string Devices() const;  // its value, or empty
  std::vector<Item> items;
};

// A tensor that is written, whole.
struct JournaledTensor {
  std::vector<kernels::Hash256> leaves;  // of its chunks (digest_tree.h)
  uint64_t tally = 0;                    // a number that belongs to it: how many NaN it has
};

// What a journal tells.
struct JournalContents {
  JournalBinding binding;
  std::vector<JournaledTensor> tensors;  // at places 0, 1, ... of the plan's order
  graph::FactRecords facts;
  uint64_t size_bytes = 0;  // of the valid records
  kernels::Hash256 chain{};

  bool empty() const { return tensors.empty() && facts.empty(); }
};

// kNotFound where there is none, kCorrupt where its beginning is not valid: then nothing is known to be finished.
Result<JournalContents> ReadJournal(const std::string& path);

// One thread. kWrite.
class WriteJournal {
 public:
  // A new file with the binding, synced. Its name is not: that is the folder's (OutputFolder::SyncEntries).
  static Result<WriteJournal> Create(const std::string& path, const JournalBinding& binding);
  // Goes on after the last valid record.
  static Result<WriteJournal> Continue(const std::string& path, const JournalContents& contents);
  // One record, synced. `tensors` are those at the next places.
  Result<void> Append(std::span<const JournaledTensor> tensors, const graph::FactRecords& facts);

 private:
  WriteJournal(std::string path, io::OwnedFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  Result<void> Write(uint32_t kind, const std::string& payload);

  std::string path_;
  io::OwnedFd fd_;
  uint64_t size_bytes_ = 0;
  kernels::Hash256 chain_{};  // of the last record
};

}  // namespace sluice::checkpoint
