#include "formats/torch_file.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/units.h"
#include "formats/pickle.h"
#include "formats/recognise.h"
#include "formats/torch_symbols.h"
#include "formats/zip_archive.h"

namespace sluice::formats {
namespace {

using Kind = Pickle::Kind;
using Id = Pickle::Id;

// Names under which people put a state dict into a larger one.
constexpr std::array<std::string_view, 4> kStateDictNames = {"state_dict", "model", "module", "model_state_dict"};

constexpr std::string_view kSaveWeights = "save the weights alone, with torch.save(model.state_dict(), ...)";
constexpr std::string_view kLegacyMagic = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";  // after PROTO
constexpr uint64_t kLookBytes = 512;
constexpr size_t kMaxDims = 64;  // PyTorch's own limit
constexpr uint64_t kMostSmallEntry = 64;

// Why a file that is no ZIP archive is refused; nullopt where its first bytes say nothing.
std::optional<Error> RecogniseOther(std::string_view first) {
  const auto error = [](ErrorCode code, std::string message) { return Error{code, std::move(message), {}}; };
  if (Recognised other = Recognise(first); other.kind == FileKind::kLfsPointer || other.kind == FileKind::kHtml) {
    return error(ErrorCode::kCorrupt, std::move(other.message));
  }
  constexpr std::string_view kLoadAndSave = "load it with PyTorch and torch.save it again, or use safetensors";
  if (first.size() > 15 && first[0] == '\x80' && first.substr(2).starts_with(kLegacyMagic)) {
    return error(ErrorCode::kUnsupported,
                 fmt::format("PyTorch's format from before version 1.6 (pickles one behind the other), which is not "
                             "supported: {}",
                             kLoadAndSave));
  }
  if (first.size() > 262 && first.substr(257).starts_with("ustar")) {
    return error(ErrorCode::kUnsupported,
                 fmt::format("a tar archive, PyTorch's format from before version 0.1.10, which is not supported: {}",
                             kLoadAndSave));
  }
  if (first.starts_with("7z\xbc\xaf\x27\x1c")) {
    return error(ErrorCode::kUnsupported, "a 7z archive, not what torch.save writes: unpack it and name what is in it");
  }
  if (first.starts_with("Rar!\x1a\x07")) {
    return error(ErrorCode::kUnsupported,
                 "a RAR archive, not what torch.save writes: unpack it and name what is in it");
  }
  if (first.starts_with("GGUF")) {
    return error(ErrorCode::kCorrupt, "a GGUF file under another name: give it a name that ends in .gguf");
  }
  if (first.size() > 2 && first[0] == '\x80' && first[1] >= 2 && first[1] <= 5) {
    return error(ErrorCode::kUnsupported,
                 fmt::format("a bare pickle, not the archive that torch.save writes: {}", kLoadAndSave));
  }
  if (!first.starts_with("PK\x03\x04")) {
    return error(ErrorCode::kCorrupt,
                 "not a PyTorch file: it does not begin as a ZIP archive does; fetch it again, or give it the name of "
                 "what it is");
  }
  return std::nullopt;
}

std::string NameOf(const PickleGlobal& global) { return fmt::format("{}.{}", global.module, global.name); }

bool IsName(std::string_view name) {
  return !name.empty() && std::none_of(name.begin(), name.end(),
                                       [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace

class TorchFileReader {
 public:
  explicit TorchFileReader(const io::ByteSource& source) : source_(source) {}

  Result<TorchFile> Run() {
    std::string first(std::min(source_.size_bytes(), kLookBytes), '\0');
    SLUICE_TRY(source_.Read(0, {reinterpret_cast<uint8_t*>(first.data()), first.size()}));
    if (auto other = RecogniseOther(first)) return Fail(std::move(*other).In(source_.name()));

    SLUICE_ASSIGN(ZipDirectory zip, ZipDirectory::Read(source_));
    zip_ = &zip;
    SLUICE_TRY(FindPrefix());
    SLUICE_TRY(zip.ResolveEntries(source_));
    SLUICE_TRY(CheckByteOrder());
    SLUICE_TRY(ReadPickle());
    SLUICE_ASSIGN(const std::vector<Pickle::Item> state_dict, FindStateDict());
    SLUICE_TRY(AddTensors(state_dict));
    ReportShared();
    ReportUnused();
    ReportChecksums();
    return std::move(file_);
  }

 private:
  struct Storage {
    const ZipEntry* entry;
    size_t type;  // place in kTorchGlobals
    uint64_t num_bytes;
    quant::Encoding encoding;  // invalid where it is untyped, or of no encoding here
  };

  tl::unexpected<Error> Fails(ErrorCode code, std::string message) const {
    return Fail(Error{code, std::move(message), {source_.name()}});
  }
  tl::unexpected<Error> FailsAt(Id value, ErrorCode code, std::string_view message) const {
    Error error{code, fmt::format("byte {} of the pickle: {}", pickle_->offset(value), message), {source_.name()}};
    if (!tensor_.empty()) error.context.push_back(Printable(tensor_));
    return Fail(std::move(error));
  }
  tl::unexpected<Error> Corrupt(Id value, std::string_view message) const {
    return FailsAt(value, ErrorCode::kCorrupt, fmt::format("{}; the file is damaged or was tampered with", message));
  }

  // All entries lie in one folder, named as the file was when it was saved.
  Result<void> FindPrefix() {
    const auto root = [](std::string_view name) { return name.substr(0, name.find('/') + 1); };
    if (zip_->size() > 0) prefix_ = root((*zip_)[0].name);
    for (size_t i = 0; i < zip_->size(); ++i) {
      if (prefix_.empty() || root((*zip_)[i].name) != prefix_) {
        return Fails(ErrorCode::kCorrupt,
                     fmt::format("a ZIP archive, but not one that torch.save wrote: {} is not in one folder with the "
                                 "others",
                                 Printable((*zip_)[i].name)));
      }
    }
    const auto in_code = [&](size_t i) { return (*zip_)[i].name.substr(prefix_.size()).starts_with("code/"); };
    bool is_script = Entry("constants.pkl") != nullptr;
    for (size_t i = 0; i < zip_->size() && !is_script; ++i) is_script = in_code(i);
    if (is_script) {
      return Fails(ErrorCode::kUnsupported,
                   "a TorchScript archive: a program, not weights alone, which is not supported; load it with "
                   "torch.jit.load and torch.save its state_dict()");
    }
    if (Entry("data.pkl") == nullptr) {
      return Fails(
          ErrorCode::kCorrupt,
          fmt::format("a ZIP archive, but not one that torch.save wrote: there is no {}data.pkl in it", prefix_));
    }
    return {};
  }

  const ZipEntry* Entry(std::string_view name) const { return zip_->Find(prefix_ + std::string(name)); }

  Result<std::string> ReadEntry(const ZipEntry& entry, uint64_t most_bytes) const {
    if (entry.size_bytes > most_bytes) {
      return Fail(Error{ErrorCode::kUnsupported,
                        fmt::format("{} bytes are over the limit of {}", entry.size_bytes, most_bytes),
                        {source_.name(), std::string(entry.name)}});
    }
    std::string bytes(entry.size_bytes, '\0');
    const std::span<uint8_t> span(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size());
    SLUICE_TRY(source_.Read(entry.data_offset, span));
    if (entry.crc32 != 0 && Crc32(span) != entry.crc32) {
      return Fail(Error{ErrorCode::kCorrupt,
                        "its bytes do not have the CRC-32 that the archive says; the file is damaged: fetch it again",
                        {source_.name(), Printable(entry.name)}});
    }
    return bytes;
  }

  Result<void> CheckByteOrder() const {
    const ZipEntry* entry = Entry("byteorder");
    if (entry == nullptr) return {};  // files of before PyTorch 2.1
    SLUICE_ASSIGN(const std::string order, ReadEntry(*entry, kMostSmallEntry));
    if (order == "little") return {};
    if (order == "big") {
      return Fails(ErrorCode::kUnsupported,
                   "the numbers are big-endian, which is not supported: load the file with PyTorch on a little-endian "
                   "machine and torch.save it again");
    }
    return Fails(ErrorCode::kCorrupt, fmt::format("the byte order is said to be \"{}\"", Printable(order)));
  }

  Result<void> ReadPickle() {
    const ZipEntry& entry = *Entry("data.pkl");
    SLUICE_ASSIGN(std::string text, ReadEntry(entry, kMaxPickleBytes));
    SLUICE_ASSIGN(pickle_, Pickle::Parse(std::move(text), kTorchGlobals, {source_.name(), Printable(entry.name)}));
    return {};
  }

  // The call that makes a tensor; nullopt where the value is something else.
  std::optional<Id> TensorCall(Id value) const {
    if (pickle_->kind(value) != Kind::kCall) return std::nullopt;
    const PickleGlobal& callee = kTorchGlobals[pickle_->global(value)];
    if (callee.module != kTorchUtils) return std::nullopt;
    return value;
  }
  bool HasTensors(std::span<const Pickle::Item> items) const {
    return std::any_of(items.begin(), items.end(),
                       [&](const auto& item) { return TensorCall(item.value).has_value(); });
  }

  Result<std::vector<Pickle::Item>> FindStateDict() {
    const Id root = pickle_->root();
    if (pickle_->kind(root) != Kind::kDict) {
      return Fails(ErrorCode::kUnsupported,
                   fmt::format("what was saved is not a dict of names and tensors: {}", kSaveWeights));
    }
    const std::vector<Pickle::Item> items = pickle_->dict(root);
    std::vector<std::pair<std::string, std::vector<Pickle::Item>>> found;
    if (HasTensors(items)) found.emplace_back("", items);
    std::string keys;
    std::map<std::string_view, int> times;
    for (const Pickle::Item& item : items) {
      if (pickle_->kind(item.key) != Kind::kText) continue;
      const std::string_view key = pickle_->text(item.key);
      if (keys.size() < 100) keys += fmt::format("{}{}", keys.empty() ? "" : ", ", Printable(key));
      if (std::find(kStateDictNames.begin(), kStateDictNames.end(), key) == kStateDictNames.end()) continue;
      if (++times[key] > 1) return Corrupt(item.key, fmt::format("\"{}\" stands in the dict twice", key));
      if (pickle_->kind(item.value) != Kind::kDict) continue;
      std::vector<Pickle::Item> nested = pickle_->dict(item.value);
      if (HasTensors(nested)) found.emplace_back(std::string(key), std::move(nested));
    }
    if (found.empty() && items.empty()) return items;  // a model without weights
    if (found.empty()) {
      return Fails(ErrorCode::kUnsupported,
                   fmt::format("there is no state dict in it, neither at the top nor under {} (it has {}): {}",
                               fmt::join(kStateDictNames, ", "), keys.empty() ? "no names" : keys, kSaveWeights));
    }
    if (found.size() > 1) {
      return Fails(
          ErrorCode::kUnsupported,
          fmt::format("there are {} state dicts in it, {} and under {}, and it does not say which is the "
                      "model: {}",
                      found.size(), found[0].first.empty() ? std::string("at the top") : "under " + found[0].first,
                      found[1].first, kSaveWeights));
    }
    if (!found[0].first.empty()) {
      file_.remarks_.push_back({false, "",
                                fmt::format("the weights are the state dict under \"{}\"; of the {} other entries "
                                            "beside it nothing is read",
                                            found[0].first, items.size() - 1)});
    }
    return std::move(found[0].second);
  }

  Result<void> AddTensors(std::span<const Pickle::Item> items) {
    std::unordered_set<std::string_view> names;
    uint64_t others = 0;
    std::string first_other;
    for (const Pickle::Item& item : items) {
      tensor_.clear();
      const bool has_text = pickle_->kind(item.key) == Kind::kText;
      if (has_text) tensor_ = pickle_->text(item.key);
      if (has_text && !names.insert(pickle_->text(item.key)).second) {
        return Corrupt(item.key, "the name stands in the state dict twice");
      }
      const auto call = TensorCall(item.value);
      if (!call) {
        if (++others == 1) first_other = tensor_;
        continue;
      }
      if (!IsName(tensor_)) return Corrupt(item.key, "the key of a tensor is not a name");
      SLUICE_TRY(AddTensor(*call));
    }
    if (others > 0) {
      file_.remarks_.push_back({true, first_other,
                                fmt::format("{} entries of the state dict are no tensors and are not read, this one "
                                            "first",
                                            others)});
    }
    return {};
  }

  std::optional<uint64_t> Unsigned(Id value) const {
    if (pickle_->kind(value) != Kind::kInt || pickle_->integer(value) < 0) return std::nullopt;
    return static_cast<uint64_t>(pickle_->integer(value));
  }
  std::optional<std::vector<uint64_t>> Numbers(Id value) const {
    if (pickle_->kind(value) != Kind::kTuple) return std::nullopt;
    std::vector<uint64_t> numbers;
    for (const Id item : pickle_->tuple(value)) {
      const auto number = Unsigned(item);
      if (!number || numbers.size() == kMaxDims) return std::nullopt;
      numbers.push_back(*number);
    }
    return numbers;
  }

  Result<void> AddTensor(Id call) {
    std::string_view function = kTorchGlobals[pickle_->global(call)].name;
    std::span<const Id> arguments = pickle_->tuple(pickle_->arguments(call));
    if (function == "_rebuild_parameter") {  // (tensor, requires_grad, hooks)
      const auto data = arguments.size() == 3 ? TensorCall(arguments[0]) : std::nullopt;
      if (!data || kTorchGlobals[pickle_->global(*data)].name == "_rebuild_parameter") {
        return Corrupt(call, "_rebuild_parameter is not of a tensor");
      }
      call = *data;
      function = kTorchGlobals[pickle_->global(call)].name;
      arguments = pickle_->tuple(pickle_->arguments(call));
    }
    // (storage, offset, size, stride[, requires_grad, hooks[, dtype][, metadata]])
    const bool is_v3 = function == "_rebuild_tensor_v3";
    const size_t least = function == "_rebuild_tensor" ? 4 : is_v3 ? 7 : 6;
    const size_t most = function == "_rebuild_tensor" ? 4 : least + 1;
    if (arguments.size() < least || arguments.size() > most) {
      return Corrupt(call, fmt::format("{} has {} arguments", function, arguments.size()));
    }
    if (arguments.size() == most && most > 4 && !IsEmptyMetadata(arguments.back())) {
      return FailsAt(call, ErrorCode::kUnsupported,
                     "the tensor is to be conjugated or negated when it is loaded, which is not supported: save "
                     "tensor.resolve_conj().resolve_neg() instead");
    }
    SLUICE_ASSIGN(const Storage storage, FindStorage(arguments[0]));
    quant::Encoding encoding = storage.encoding;
    if (is_v3) {
      const Id dtype = arguments[6];
      const bool is_dtype =
          pickle_->kind(dtype) == Kind::kGlobal && kTorchGlobals[pickle_->global(dtype)].module == "torch";
      if (!is_dtype || kTorchGlobals[storage.type].name != "UntypedStorage") {
        return Corrupt(call, "_rebuild_tensor_v3 is not of an untyped storage and a dtype");
      }
      encoding = EncodingOf(&TorchNumberType::dtype, kTorchGlobals[pickle_->global(dtype)].name);
      if (!encoding.valid()) return NoEncoding(call, kTorchGlobals[pickle_->global(dtype)]);
    }
    if (!encoding.valid()) return NoEncoding(call, kTorchGlobals[storage.type]);

    const auto offset = Unsigned(arguments[1]);
    const auto shape = Numbers(arguments[2]), stride = Numbers(arguments[3]);
    if (!offset || !shape || !stride || shape->size() != stride->size()) {
      return Corrupt(call, "offset, size or stride of the tensor is malformed");
    }
    return AddTensor(call, storage, encoding, *offset, *shape, *stride);
  }

  Result<void> AddTensor(Id call, const Storage& storage, quant::Encoding encoding, uint64_t offset,
                         const std::vector<uint64_t>& shape, const std::vector<uint64_t>& stride) {
    const uint64_t item_bytes = encoding->block_bytes;
    const uint64_t capacity = storage.num_bytes / item_bytes;  // elements
    // offset + sum((size - 1) stride) < capacity, without overflow; sizes of 0 hide no others that overflow.
    uint64_t last = offset, count = 1;
    bool fits = offset <= capacity, is_empty = false, too_large = false, contiguous = true;
    uint64_t expected_stride = 1;
    for (size_t i = shape.size(); i-- > 0;) {
      const uint64_t size = std::max<uint64_t>(shape[i], 1);
      is_empty |= shape[i] == 0;
      too_large |= __builtin_mul_overflow(count, size, &count) || count > INT64_MAX / item_bytes;
      uint64_t reach = 0;
      fits &= !__builtin_mul_overflow(size - 1, stride[i], &reach) && !__builtin_add_overflow(last, reach, &last);
      if (size == 1) continue;
      contiguous &= stride[i] == expected_stride;
      expected_stride = count;
    }
    if (too_large) return Corrupt(call, fmt::format("the shape [{}] is too large", fmt::join(shape, ", ")));
    if (!is_empty && (!fits || last >= capacity)) {
      return Corrupt(call,
                     fmt::format("the tensor passes the end of its storage: offset {}, shape [{}] and stride [{}] "
                                 "in {} elements",
                                 offset, fmt::join(shape, ", "), fmt::join(stride, ", "), capacity));
    }
    if (is_empty && offset > capacity) return Corrupt(call, "the tensor begins after the end of its storage");
    if (!is_empty && !contiguous) {
      return FailsAt(call, ErrorCode::kUnsupported,
                     fmt::format("the tensor of shape [{}] is a view that does not lie in one piece (stride [{}]): a "
                                 "transposed, cut or expanded tensor, which is not supported yet; save "
                                 "tensor.contiguous() instead, or use save_pretrained(safe_serialization=True)",
                                 fmt::join(shape, ", "), fmt::join(stride, ", ")));
    }
    const uint64_t num_elements = is_empty ? 0 : count;
    const uint64_t begin = storage.entry->data_offset + offset * item_bytes;
    file_.entries_.push_back({tensor_, encoding, shape, num_elements, begin, begin + num_elements * item_bytes});
    return {};
  }

  bool IsEmptyMetadata(Id value) const {
    return pickle_->kind(value) == Kind::kNone || (pickle_->kind(value) == Kind::kDict && pickle_->is_empty(value));
  }

  tl::unexpected<Error> NoEncoding(Id call, const PickleGlobal& type) const {
    return FailsAt(call, ErrorCode::kUnsupported,
                   fmt::format("a tensor of {} is not supported: cast it to another dtype, or leave it out when saving",
                               NameOf(type)));
  }
  static quant::Encoding EncodingOf(std::string_view TorchNumberType::*column, std::string_view name) {
    for (const TorchNumberType& type : kTorchNumberTypes) {
      if (!name.empty() && type.*column == name) return quant::EncodingByName(type.encoding);
    }
    return {};
  }

  // ("storage", type, key, location, numel)
  Result<Storage> FindStorage(Id value) {
    if (pickle_->kind(value) != Kind::kPersistent)
      return Corrupt(value, "the storage of a tensor is not a persistent id");
    const Id id = pickle_->persistent_id(value);
    const std::span<const Id> parts = pickle_->kind(id) == Kind::kTuple ? pickle_->tuple(id) : std::span<const Id>();
    const auto is_text = [&](size_t i) { return pickle_->kind(parts[i]) == Kind::kText; };
    if (parts.size() != 5 || !is_text(0) || pickle_->text(parts[0]) != "storage" ||
        pickle_->kind(parts[1]) != Kind::kGlobal || !is_text(2) || !is_text(3) || !Unsigned(parts[4])) {
      return Corrupt(value, "a persistent id is not (\"storage\", type, key, location, number of elements)");
    }
    const size_t type = pickle_->global(parts[1]);
    const std::string_view key = pickle_->text(parts[2]);
    const uint64_t num_elements = *Unsigned(parts[4]);
    if (!kTorchGlobals[type].name.ends_with("Storage")) {
      return Corrupt(value, fmt::format("{} is not the type of a storage", NameOf(kTorchGlobals[type])));
    }
    const auto known = storages_.find(key);
    if (known != storages_.end()) {
      if (known->second.first.type != type || known->second.second != num_elements) {
        return Corrupt(value, fmt::format("the storage {} is said to be of two types or sizes", Printable(key)));
      }
      return known->second.first;
    }
    const ZipEntry* entry = Entry(fmt::format("data/{}", key));
    if (entry == nullptr) {
      return Corrupt(value, fmt::format("the storage data/{} is not in the archive", Printable(key)));
    }
    Storage storage{entry, type, 0, EncodingOf(&TorchNumberType::storage, kTorchGlobals[type].name)};
    uint64_t item_bytes = storage.encoding.valid() ? storage.encoding->block_bytes : 1;
    if (kTorchGlobals[type].name == "ComplexDoubleStorage") item_bytes = 16;
    if (__builtin_mul_overflow(num_elements, item_bytes, &storage.num_bytes) || storage.num_bytes > entry->size_bytes) {
      return Corrupt(value, fmt::format("the storage data/{} is said to have {} elements of {} bytes, but has {} bytes",
                                        Printable(key), num_elements, item_bytes, entry->size_bytes));
    }
    storages_.emplace(key, std::make_pair(storage, num_elements));
    return storage;
  }

  void ReportShared() {
    const auto& entries = file_.entries_;
    std::vector<size_t> order(entries.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return entries[a].begin < entries[b].begin; });
    uint64_t shared = 0, end = 0;
    size_t owner = 0, first = 0, first_owner = 0;
    for (const size_t i : order) {
      if (entries[i].num_elements == 0) continue;
      if (entries[i].begin < end && shared++ == 0) std::tie(first, first_owner) = std::tie(i, owner);
      if (entries[i].end > end) {
        end = entries[i].end;
        owner = i;
      }
    }
    if (shared == 0) return;
    file_.remarks_.push_back({false, entries[first].name,
                              fmt::format("{} tensors share the bytes of others, this one those of {}: tied when they "
                                          "were saved",
                                          shared, Printable(entries[first_owner].name))});
  }

  void ReportUnused() {
    std::vector<bool> is_used(zip_->size());
    for (const auto& [key, storage] : storages_) is_used[static_cast<size_t>(storage.first.entry - &(*zip_)[0])] = true;
    uint64_t count = 0, size_bytes = 0;
    for (size_t i = 0; i < zip_->size(); ++i) {
      const ZipEntry& entry = (*zip_)[i];
      if (is_used[i] || !entry.name.substr(prefix_.size()).starts_with("data/")) continue;
      ++count;
      size_bytes += entry.size_bytes;
    }
    if (count == 0) return;
    file_.remarks_.push_back({true, "",
                              fmt::format("{} storages ({}) belong to no tensor of the state dict, and are not read",
                                          count, FormatBytes(size_bytes))});
  }

  void ReportChecksums() {
    uint64_t without = 0;
    for (size_t i = 0; i < zip_->size(); ++i) {
      // The CRC-32 of some bytes is 0; that of four of them, and no fewer.
      if ((*zip_)[i].crc32 == 0 && (*zip_)[i].size_bytes > 0) ++without;
    }
    if (without == 0) return;
    file_.remarks_.push_back({false, "",
                              fmt::format("{} of the {} entries have no checksum (torch.save was told to leave it out)",
                                          without, zip_->size())});
  }

  const io::ByteSource& source_;
  const ZipDirectory* zip_ = nullptr;
  std::string prefix_;  // "archive/"
  std::optional<Pickle> pickle_;
  std::string tensor_;                                                           // the one that is looked at
  std::unordered_map<std::string_view, std::pair<Storage, uint64_t>> storages_;  // by key, with their elements
  TorchFile file_;
};

Result<TorchFile> TorchFile::Read(const io::ByteSource& source) { return TorchFileReader(source).Run(); }

StoredTensor TorchFile::operator[](size_t i) const {
  const Entry& entry = entries_[i];
  return {entry.name, entry.encoding, entry.shape, entry.num_elements, entry.begin, entry.end};
}

bool LooksLikeTorch(std::string_view first_bytes) {
  return first_bytes.starts_with("PK\x03\x04") ||
         (first_bytes.size() > 15 && first_bytes[0] == '\x80' && first_bytes.substr(2).starts_with(kLegacyMagic));
}

}  // namespace sluice::formats
