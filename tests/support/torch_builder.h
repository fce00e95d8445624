// ZIP archives, pickles and PyTorch files in memory for tests, right ones and wrong ones. Nothing is checked: what is
// asked for is written.
//
//   namespace p = tests::pickle;
//   std::string file = tests::TorchFileBytes(
//       p::Pickle(p::Dict({{p::Text("w"), p::Tensor("FloatStorage", "0", 6, 0, {2, 3}, {3, 1})}})),
//       {{"0", std::string(24, '\0')}});
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/zip_archive.h"

namespace sluice::tests {

template <class T>
std::string LittleEndian(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

struct ZipMember {
  struct Header {
    std::string name;
    uint16_t flags = 0, method = 0;
    uint32_t crc = 0, stored_bytes = 0, size_bytes = 0;
    std::string extra;
  };
  std::string data;
  Header local, central;
  std::string descriptor;  // stands behind the data
  uint16_t disk = 0;
  std::optional<uint32_t> offset;  // in the directory; otherwise where the member is
};

inline uint32_t CrcOf(std::string_view data) {
  return formats::Crc32({reinterpret_cast<const uint8_t*>(data.data()), data.size()});
}

// As Python's zipfile writes one: sizes in both headers.
inline ZipMember PlainMember(std::string name, std::string data) {
  ZipMember::Header header{
      std::move(name), 0, 0, CrcOf(data), static_cast<uint32_t>(data.size()), static_cast<uint32_t>(data.size()), ""};
  return {std::move(data), header, header, "", 0, std::nullopt};
}

// As PyTorch's writer does it: sizes and CRC in a descriptor behind the data, nothing in the local header.
inline ZipMember TorchMember(std::string name, std::string data) {
  ZipMember member = PlainMember(std::move(name), std::move(data));
  member.central.flags = 0x808;
  member.local = {member.central.name, 0x808, 0, 0, 0, 0, std::string("FB\x04\0ZZZZ", 8)};
  member.descriptor = "PK\x07\x08" + LittleEndian(member.central.crc) + LittleEndian(member.central.stored_bytes) +
                      LittleEndian(member.central.size_bytes);
  return member;
}

struct ZipEnd {
  bool zip64 = false;
  std::string before{}, between{}, after{};  // garbage before the members, before the directory, after the end
  uint16_t disk = 0, entries_more = 0;
  uint32_t num_disks64 = 1;
  uint64_t size_more = 0;
};

inline std::string BuildZip(const std::vector<ZipMember>& members, const ZipEnd& end = {}) {
  const auto header = [](const ZipMember::Header& h) {
    return LittleEndian(h.flags) + LittleEndian(h.method) + std::string(4, '\0') + LittleEndian(h.crc) +
           LittleEndian(h.stored_bytes) + LittleEndian(h.size_bytes) +
           LittleEndian(static_cast<uint16_t>(h.name.size())) + LittleEndian(static_cast<uint16_t>(h.extra.size()));
  };
  std::string out = end.before, directory;
  for (const ZipMember& member : members) {
    directory += std::string("PK\x01\x02\0\0\0\0", 8) + header(member.central) + std::string(2, '\0') +
                 LittleEndian(member.disk) + std::string(6, '\0') +
                 LittleEndian(member.offset.value_or(static_cast<uint32_t>(out.size()))) + member.central.name +
                 member.central.extra;
    out += std::string("PK\x03\x04\0\0", 6) + header(member.local) + member.local.name + member.local.extra +
           member.data + member.descriptor;
  }
  out += end.between;
  const uint64_t begin = out.size(), size_bytes = directory.size() + end.size_more;
  const uint64_t entries = members.size() + end.entries_more;
  out += directory;
  if (end.zip64) {
    const uint64_t at = out.size();
    out += "PK\x06\x06" + LittleEndian(uint64_t{44}) + std::string(12, '\0') + LittleEndian(entries) +
           LittleEndian(entries) + LittleEndian(size_bytes) + LittleEndian(begin);
    out += "PK\x06\x07" + LittleEndian(uint32_t{0}) + LittleEndian(at) + LittleEndian(end.num_disks64);
  }
  out += "PK\x05\x06" + LittleEndian(end.disk) + LittleEndian(end.disk) + LittleEndian(static_cast<uint16_t>(entries)) +
         LittleEndian(static_cast<uint16_t>(entries)) + LittleEndian(static_cast<uint32_t>(size_bytes)) +
         LittleEndian(static_cast<uint32_t>(begin)) + std::string(2, '\0');
  return out + end.after;
}

// Each function gives the opcodes that leave one value on the stack.
namespace pickle {

using Ops = std::string;

inline Ops Pickle(const Ops& body) { return "\x80\x02" + body + "."; }
inline Ops Text(std::string_view text) {
  return "X" + LittleEndian(static_cast<uint32_t>(text.size())) + std::string(text);
}
inline Ops Int(int64_t value) {
  if (value >= 0 && value < 256) return "K" + std::string(1, static_cast<char>(value));
  if (value == static_cast<int32_t>(value)) return "J" + LittleEndian(static_cast<int32_t>(value));
  return "\x8a\x08" + LittleEndian(value);
}
inline Ops Global(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}
inline Ops Tuple(const std::vector<Ops>& items) {
  Ops ops = "(";
  for (const Ops& item : items) ops += item;
  return ops + "t";
}
inline Ops Numbers(const std::vector<int64_t>& numbers) {
  std::vector<Ops> items;
  items.reserve(numbers.size());
  for (const int64_t number : numbers) items.push_back(Int(number));
  return Tuple(items);
}
inline Ops Call(const Ops& function, const std::vector<Ops>& arguments) { return function + Tuple(arguments) + "R"; }
inline Ops OrderedDict() { return Global("collections", "OrderedDict") + ")R"; }
// `dict` with these items added.
inline Ops Dict(const std::vector<std::pair<Ops, Ops>>& items, const Ops& dict = "}") {
  Ops ops = dict + "(";
  for (const auto& [key, value] : items) ops += key + value;
  return ops + "u";
}
inline Ops Storage(std::string_view type, std::string_view key, int64_t num_elements) {
  const Ops global = Global(type == "UntypedStorage" ? "torch.storage" : "torch", type);
  return Tuple({Text("storage"), global, Text(key), Text("cpu"), Int(num_elements)}) + "Q";
}
inline Ops Tensor(const Ops& storage, int64_t offset, const std::vector<int64_t>& shape,
                  const std::vector<int64_t>& stride) {
  return Call(Global("torch._utils", "_rebuild_tensor_v2"),
              {storage, Int(offset), Numbers(shape), Numbers(stride), "\x89", OrderedDict()});
}
inline Ops Tensor(std::string_view type, std::string_view key, int64_t num_elements, int64_t offset,
                  const std::vector<int64_t>& shape, const std::vector<int64_t>& stride) {
  return Tensor(Storage(type, key, num_elements), offset, shape, stride);
}

}  // namespace pickle

// An archive as torch.save writes it. `storages`: key and bytes. `more`: further members, in the folder "archive/".
inline std::string TorchFileBytes(const std::string& data_pkl,
                                  const std::vector<std::pair<std::string, std::string>>& storages,
                                  const std::vector<std::pair<std::string, std::string>>& more = {}) {
  std::vector<ZipMember> members = {TorchMember("archive/data.pkl", data_pkl)};
  for (const auto& [name, data] : more) members.push_back(TorchMember("archive/" + name, data));
  for (const auto& [key, data] : storages) members.push_back(TorchMember("archive/data/" + key, data));
  members.push_back(TorchMember("archive/version", "3\n"));
  return BuildZip(members, {.zip64 = true});
}

}  // namespace sluice::tests
