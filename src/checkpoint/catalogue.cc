#include "checkpoint/catalogue.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "base/check.h"

namespace sluice::checkpoint {

void Catalogue::Add(std::string_view name, quant::Encoding encoding, std::span<const uint64_t> shape,
                    uint64_t num_elements) {
  SLUICE_CHECK(dims_.size() + shape.size() <= UINT32_MAX && name.size() <= UINT32_MAX);
  entries_.push_back({names_.size(), num_elements, static_cast<uint32_t>(name.size()),
                      static_cast<uint32_t>(dims_.size()), encoding, static_cast<uint32_t>(shape.size())});
  names_ += name;
  dims_.insert(dims_.end(), shape.begin(), shape.end());
}

std::vector<uint32_t> Catalogue::Sort() {
  std::vector<uint32_t> order(entries_.size());
  std::iota(order.begin(), order.end(), 0u);
  const auto name = [this](const Entry& entry) {
    return std::string_view(names_).substr(entry.name_begin, entry.name_size);
  };
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return name(entries_[a]) < name(entries_[b]); });
  std::vector<Entry> sorted;
  sorted.reserve(entries_.size());
  for (const uint32_t i : order) {
    SLUICE_CHECK(sorted.empty() || name(sorted.back()) != name(entries_[i]));
    sorted.push_back(entries_[i]);
  }
  entries_ = std::move(sorted);
  names_.shrink_to_fit();
  dims_.shrink_to_fit();
  return order;
}

TensorInfo Catalogue::operator[](size_t i) const {
  const Entry& entry = entries_[i];
  return {std::string_view(names_).substr(entry.name_begin, entry.name_size), entry.encoding,
          std::span(dims_).subspan(entry.shape_begin, entry.rank), entry.num_elements};
}

std::optional<size_t> Catalogue::Find(std::string_view name) const {
  const auto place =
      std::lower_bound(entries_.begin(), entries_.end(), name, [this](const Entry& entry, std::string_view n) {
        return std::string_view(names_).substr(entry.name_begin, entry.name_size) < n;
      });
  if (place == entries_.end()) return std::nullopt;
  const auto i = static_cast<size_t>(place - entries_.begin());
  if ((*this)[i].name != name) return std::nullopt;
  return i;
}

uint64_t Catalogue::total_elements() const {
  uint64_t total = 0;
  for (const Entry& entry : entries_) total += entry.num_elements;
  return total;
}

uint64_t Catalogue::total_bytes() const {
  uint64_t total = 0;
  for (const Entry& entry : entries_) total += entry.encoding.BytesOf(entry.num_elements);
  return total;
}

uint64_t Catalogue::memory_bytes() const {
  return sizeof(*this) + names_.capacity() + dims_.capacity() * sizeof(uint64_t) + entries_.capacity() * sizeof(Entry);
}

std::string ShapeText(std::span<const uint64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace sluice::checkpoint
