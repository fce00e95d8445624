// Catalogue: the names, encodings and shapes of a checkpoint's tensors, compactly (100,000 tensors in a few MiB),
// sorted by canonical Hugging Face name in byte order. Immutable once built; thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quant/encoding.h"

namespace sluice::checkpoint {

struct TensorInfo {
  std::string_view name;  // lives as long as the catalogue
  quant::Encoding encoding;
  std::span<const uint64_t> shape;  // slowest dimension first, as Hugging Face writes it; empty for a scalar
  uint64_t num_elements = 0;
  uint64_t size_bytes() const { return encoding.BytesOf(num_elements); }
};

class Catalogue {
 public:
  // num_elements must be the product of shape, checked by the caller. Names must differ.
  void Add(std::string_view name, quant::Encoding encoding, std::span<const uint64_t> shape, uint64_t num_elements);
  // Sorts by name. Returns, for each place of the sorted order, the index at which it was added.
  std::vector<uint32_t> Sort();

  size_t size() const { return entries_.size(); }
  TensorInfo operator[](size_t i) const;
  std::optional<size_t> Find(std::string_view name) const;  // after Sort
  uint64_t total_elements() const;
  uint64_t total_bytes() const;
  uint64_t memory_bytes() const;  // what the catalogue itself holds

 private:
  struct Entry {
    uint64_t name_begin, num_elements;
    uint32_t name_size, shape_begin;
    quant::Encoding encoding;
    uint32_t rank;
  };
  std::string names_;
  std::vector<uint64_t> dims_;
  std::vector<Entry> entries_;
};

std::string ShapeText(std::span<const uint64_t> shape);  // "[64000, 7168]"

}  // namespace sluice::checkpoint
