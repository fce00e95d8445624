#include "checkpoint/write_journal.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "io/byte_source.h"

namespace sluice::checkpoint {
namespace {

using kernels::Hash256;

constexpr std::string_view kMagic = "sluice journal 1";
constexpr uint32_t kBindingKind = 1, kFinishedKind = 2;
constexpr uint64_t kHeadBytes = 8;  // kind and size of a record
constexpr uint64_t kMaxJournalBytes = uint64_t{1} << 30;

// Integers are little-endian.
void PutInteger(uint64_t value, int size_bytes, std::string* out) {
  for (int i = 0; i < size_bytes; ++i) out->push_back(static_cast<char>(value >> (8 * i)));
}
void PutText(std::string_view text, std::string* out) {
  PutInteger(text.size(), 8, out);
  out->append(text);
}

// Takes a payload apart. Past its end everything is 0 and ok() is false.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  uint64_t Integer(int size_bytes) {
    uint64_t value = 0;
    const std::string_view bytes = Take(static_cast<uint64_t>(size_bytes));
    for (size_t i = 0; i < bytes.size(); ++i) value |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
    return value;
  }
  std::string Text() { return std::string(Take(Integer(8))); }
  Hash256 Hash() {
    Hash256 hash{};
    const std::string_view bytes = Take(hash.size());
    if (!bytes.empty()) std::memcpy(hash.data(), bytes.data(), hash.size());
    return hash;
  }
  // A count of things that take `each_bytes` at least.
  uint64_t Count(uint64_t each_bytes) {
    const uint64_t count = Integer(8);
    ok_ = ok_ && count <= bytes_.size() / each_bytes;
    return ok_ ? count : 0;
  }
  bool ok() const { return ok_; }
  bool AtEnd() const { return ok_ && bytes_.empty(); }

 private:
  std::string_view Take(uint64_t size_bytes) {
    ok_ = ok_ && size_bytes <= bytes_.size();
    if (!ok_) return {};
    const std::string_view taken = bytes_.substr(0, size_bytes);
    bytes_.remove_prefix(size_bytes);
    return taken;
  }
  std::string_view bytes_;
  bool ok_ = true;
};

Hash256 Chain(const Hash256& before, std::string_view record) {
  kernels::Sha256 hash;
  hash.Update(std::span<const uint8_t>(before));
  hash.Update(record);
  return hash.Finish();
}

bool ReadBinding(std::string_view payload, JournalBinding* binding) {
  Reader reader(payload);
  const uint64_t count = reader.Count(16);
  for (uint64_t i = 0; i < count; ++i) {
    JournalBinding::Item item;
    item.what = reader.Text();
    item.value = reader.Text();
    binding->items.push_back(std::move(item));
  }
  return reader.AtEnd();
}

bool ReadFinished(std::string_view payload, JournalContents* contents) {
  Reader reader(payload);
  const uint64_t num_facts = reader.Count(32);
  for (uint64_t i = 0; i < num_facts && reader.ok(); ++i) {
    graph::Key key;
    key.hi = reader.Integer(8);
    key.lo = reader.Integer(8);
    graph::FactRecord fact;
    fact.hash = reader.Text();
    fact.numbers.resize(reader.Count(8));
    for (double& number : fact.numbers) number = std::bit_cast<double>(reader.Integer(8));
    contents->facts.emplace_back(key, std::move(fact));
  }
  const uint64_t num_tensors = reader.Count(16);
  for (uint64_t i = 0; i < num_tensors && reader.ok(); ++i) {
    JournaledTensor tensor;
    tensor.tally = reader.Integer(8);
    tensor.leaves.resize(reader.Count(sizeof(Hash256)));
    for (Hash256& leaf : tensor.leaves) leaf = reader.Hash();
    contents->tensors.push_back(std::move(tensor));
  }
  return reader.AtEnd();
}

}  // namespace

std::string JournalBinding::Devices() const {
  const auto found = std::ranges::find(items, kDevices, &Item::what);
  return found == items.end() ? std::string() : found->value;
}

Result<JournalContents> ReadJournal(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return Fail(ErrorCode::kNotFound, fmt::format("{}: no such file", path));
  SLUICE_ASSIGN(const std::string bytes, io::ReadWholeFile(path, kMaxJournalBytes));
  JournalContents contents;
  const std::string_view all = bytes;
  if (!all.starts_with(kMagic)) return Fail(ErrorCode::kCorrupt, fmt::format("{}: is no journal of sluice", path));
  contents.size_bytes = kMagic.size();
  for (bool is_first = true;; is_first = false) {
    const std::string_view left = all.substr(contents.size_bytes);
    Reader head(left);
    const uint64_t kind = head.Integer(4), payload_bytes = head.Integer(4);
    const bool whole = head.ok() && left.size() - kHeadBytes >= payload_bytes + sizeof(Hash256);
    if (!whole) break;
    const Hash256 chain = Chain(contents.chain, left.substr(0, kHeadBytes + payload_bytes));
    if (std::memcmp(chain.data(), left.data() + kHeadBytes + payload_bytes, chain.size()) != 0) break;
    const std::string_view payload = left.substr(kHeadBytes, payload_bytes);
    const bool good = is_first ? kind == kBindingKind && ReadBinding(payload, &contents.binding)
                               : kind == kFinishedKind && ReadFinished(payload, &contents);
    if (!good) return Fail(ErrorCode::kCorrupt, fmt::format("{}: byte {}: is no record", path, contents.size_bytes));
    contents.chain = chain;
    contents.size_bytes += kHeadBytes + payload_bytes + sizeof(Hash256);
  }
  if (contents.size_bytes == kMagic.size()) {
    return Fail(ErrorCode::kCorrupt, fmt::format("{}: ends before its first record", path));
  }
  return contents;
}

Result<WriteJournal> WriteJournal::Create(const std::string& path, const JournalBinding& binding) {
  SLUICE_ASSIGN(io::OwnedFd fd, io::OpenToWrite(path, O_WRONLY | O_CREAT | O_EXCL));
  WriteJournal journal(path, std::move(fd));
  std::string payload;
  PutInteger(binding.items.size(), 8, &payload);
  for (const JournalBinding::Item& item : binding.items) {
    PutText(item.what, &payload);
    PutText(item.value, &payload);
  }
  SLUICE_TRY(
      io::WriteAll(journal.fd_.get(), path, {reinterpret_cast<const uint8_t*>(kMagic.data()), kMagic.size()}, 0));
  journal.size_bytes_ = kMagic.size();
  SLUICE_TRY(journal.Write(kBindingKind, payload));
  return journal;
}

Result<WriteJournal> WriteJournal::Continue(const std::string& path, const JournalContents& contents) {
  SLUICE_ASSIGN(io::OwnedFd fd, io::OpenToWrite(path, O_WRONLY));
  WriteJournal journal(path, std::move(fd));
  journal.size_bytes_ = contents.size_bytes;
  journal.chain_ = contents.chain;
  // A torn record goes: a shorter one over it must not leave its rest to be looked at.
  SLUICE_TRY(io::Truncate(journal.fd_.get(), path, contents.size_bytes));
  return journal;
}

Result<void> WriteJournal::Append(std::span<const JournaledTensor> tensors, const graph::FactRecords& facts) {
  std::string payload;
  PutInteger(facts.size(), 8, &payload);
  for (const auto& [key, fact] : facts) {
    PutInteger(key.hi, 8, &payload);
    PutInteger(key.lo, 8, &payload);
    PutText(fact.hash, &payload);
    PutInteger(fact.numbers.size(), 8, &payload);
    for (const double number : fact.numbers) PutInteger(std::bit_cast<uint64_t>(number), 8, &payload);
  }
  PutInteger(tensors.size(), 8, &payload);
  for (const JournaledTensor& tensor : tensors) {
    PutInteger(tensor.tally, 8, &payload);
    PutInteger(tensor.leaves.size(), 8, &payload);
    for (const Hash256& leaf : tensor.leaves) payload.append(reinterpret_cast<const char*>(leaf.data()), leaf.size());
  }
  return Write(kFinishedKind, payload);
}

Result<void> WriteJournal::Write(uint32_t kind, const std::string& payload) {
  std::string record;
  PutInteger(kind, 4, &record);
  PutInteger(payload.size(), 4, &record);
  record += payload;
  const Hash256 chain = Chain(chain_, record);
  record.append(reinterpret_cast<const char*>(chain.data()), chain.size());
  SLUICE_TRY(
      io::WriteAll(fd_.get(), path_, {reinterpret_cast<const uint8_t*>(record.data()), record.size()}, size_bytes_));
  SLUICE_TRY(io::SyncData(fd_.get(), path_));
  size_bytes_ += record.size();
  chain_ = chain;
  return {};
}

}  // namespace sluice::checkpoint
